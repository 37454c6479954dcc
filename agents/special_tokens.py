"""Tokens with a meaning of their own: those that end a turn and those that are never sampled."""

from __future__ import annotations

from typing import Any

from mmzero_env.errors import UserError


def stop_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends a turn, by the generation config and the tokenizer.

    Args:
        generation_config: Of transformers, or None if a model has none.
        tokenizer: The model's tokenizer.

    Raises:
        UserError: If neither names one.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    ids = [configured] if isinstance(configured, int) else list(configured or [])
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    if not ids:
        raise UserError(
            "neither generation_config.json nor the tokenizer names an end-of-turn token; "
            "expected eos_token_id in one of them"
        )
    return tuple(ids)


def banned_ids(config: Any, generation_config: Any, vocabulary: int) -> tuple[int, ...]:
    """Vision tokens: sampled ones would stand for pictures that do not exist.

    Args:
        config: Of the model.
        generation_config: Its ``suppress_tokens`` are banned as well; or None.
        vocabulary: Number of tokens that can be sampled.
    """
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {getattr(config, name, None) for name in names}
    ids |= set(getattr(generation_config, "suppress_tokens", None) or ())
    return tuple(sorted(i for i in ids if i is not None and 0 <= i < vocabulary))
