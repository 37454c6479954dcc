"""A model's tokenizer and the ids with a meaning of their own, without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents.registry import missing_extra
from mmzero_env.errors import UserError

try:
    import transformers

    from agents.encoding import PromptEncoder
    from agents.special_tokens import banned_ids, stop_ids
except ModuleNotFoundError as error:
    raise missing_extra(error, "train") from error


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What it takes to write prompts for a model and to read its completions.

    Attributes:
        tokenizer: The tokenizer.
        encoder: Writes prompts.
        image_token_id: Stands for a picture; None for a model that sees none.
        stop_ids: Tokens that end a completion.
        banned_ids: Tokens that are never to be sampled.
    """

    tokenizer: Any
    encoder: PromptEncoder
    image_token_id: int | None
    stop_ids: tuple[int, ...]
    banned_ids: tuple[int, ...]

    @classmethod
    def load(cls, path: str) -> Vocabulary:
        """Read a model's tokenizer and configuration.

        Args:
            path: A model folder, or a hub id; of that only small files are fetched, and none
                if it is in the cache.

        Raises:
            UserError: If they cannot be read.
        """
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            config = transformers.AutoConfig.from_pretrained(path)
        except (OSError, ValueError, KeyError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"the tokenizer of {path!r} cannot be loaded: {first} Expected a model folder or "
                "the id of a model on the Hugging Face hub; name one with the option tokenizer."
            ) from error
        try:
            generation = transformers.GenerationConfig.from_pretrained(path)
        except OSError:
            generation = None
        image = getattr(config, "image_token_id", None)
        return cls(
            tokenizer,
            PromptEncoder(tokenizer, image_token_id=image),
            image,
            stop_ids(generation, tokenizer),
            banned_ids(config, generation, config.get_text_config().vocab_size),
        )

    def text(self, ids: Sequence[int]) -> str:
        """The text of a completion, without the tokens that end it."""
        bare = [i for i in ids if i not in self.stop_ids]
        if self.encoder.backend is not None:
            return self.encoder.backend.decode(bare, skip_special_tokens=True)
        return self.tokenizer.decode(
            bare, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
