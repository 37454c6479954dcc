"""Chat completions: requests as the server wants them, answers as we want them.

Everything that comes from a server is checked here field by field. A reader returns what it
read, or an :class:`agents.http_faults.Unusable` that says why not; nothing is filled in.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from PIL import Image as PILImage

from agents.http_faults import Unusable, excerpt
from mmzero_env.protocol import Completion, Image

# Control words of the chat templates in use: <|im_end|> (Qwen, Phi, Llama), <｜User｜>
# (DeepSeek), <start_of_turn> (Gemma), [INST] (Mistral), and what stands for a picture.
_CONTROL = re.compile(
    r"(?=<[|｜][^<>|｜\n]{1,40}[|｜]>"
    r"|</?(?:start|end)_of_(?:turn|image|text)>|</?(?:bos|eos|pad|unk|s|image|img|video|audio)>"
    r"|<(?:image_soft_token|IMG_CONTEXT|image_placeholder)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|IMG|IMG_BREAK|IMG_END|TOOL_CALLS)\])",
    re.IGNORECASE,
)
_ZERO_WIDTH_SPACE = "\u200b"
# Rounding may put a log-probability a little above 0; anything more is no probability.
_ROUNDING = 1e-3


def data_url(image: Image) -> str:
    """A picture as a data URL, in PNG and so without loss.

    Args:
        image: Shape (H, W, 3), dtype uint8.
    """
    buffer = io.BytesIO()
    # Little is gained by compressing harder, and it takes ten times as long.
    PILImage.fromarray(image).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def user_message(text: str, url: str | None) -> dict[str, Any]:
    """The single user message of a prompt, the picture before the text."""
    if url is None:
        return {"role": "user", "content": text}
    picture = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "user", "content": [picture, {"type": "text", "text": text}]}


def disarm(text: str) -> str:
    """Cut control words of chat templates with a zero-width space.

    A server reads ``<|im_end|>`` in a text as the end of the message. Prompts quote what
    models wrote, so without the cut one model could speak to another in any role. What a
    template unknown to us takes for a control word is not cut.

    Args:
        text: Any text.

    Returns:
        The same text if it holds no control word.
    """
    starts = [match.start() + 1 for match in _CONTROL.finditer(text)]
    parts = [text[a:b] for a, b in zip([0, *starts], [*starts, len(text)], strict=True)]
    return _ZERO_WIDTH_SPACE.join(parts)


def read_chat(
    data: Mapping[str, Any], n: int, *, logprobs: bool
) -> tuple[Completion, ...] | Unusable:
    """Read a ``chat.completion`` object.

    Args:
        data: The object.
        n: Choices that were asked for.
        logprobs: Whether log-probabilities were asked for.

    Returns:
        From 1 to ``n`` completions in the order of their index, or why it cannot be used.
    """
    choices = in_order(data, n)
    if isinstance(choices, Unusable):
        return choices
    completions = []
    for choice in choices:
        completion = _read_choice(choice, logprobs)
        if isinstance(completion, Unusable):
            return completion
        completions.append(completion)
    return tuple(completions)


def in_order(data: Mapping[str, Any], n: int) -> list[Mapping[str, Any]] | Unusable:
    """The choices of an answer by their index: from 1 to ``n``, each index once."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not all(isinstance(c, Mapping) for c in choices):
        return Unusable(f"expected a list of choices, came {excerpt(repr(choices))}")
    if not 1 <= len(choices) <= n:
        return Unusable(f"expected {n} choices, came {len(choices)}")
    indices = [choice.get("index") for choice in choices]
    if sorted(indices, key=repr) != sorted(range(len(choices)), key=repr):
        return Unusable(f"expected choices with index 0 to {len(choices) - 1}, came {indices}")
    return sorted(choices, key=lambda choice: choice["index"])


def read_finish(choice: Mapping[str, Any]) -> str | Unusable:
    """Why a choice ended: ``"stop"`` or ``"length"``."""
    reason = choice.get("finish_reason")
    if reason in ("stop", "length"):
        return reason
    mends = {
        "content_filter": "The provider's filter took the answer; another model may do.",
        "tool_calls": "No tools were offered; another model, or one without a tool parser, may do.",
    }
    return Unusable(
        f"expected finish_reason 'stop' or 'length', came {reason!r}", mends.get(str(reason), "")
    )


def read_logprobs(
    choice: Mapping[str, Any],
) -> tuple[tuple[str, ...], tuple[float, ...]] | Unusable:
    """The sampled tokens of a choice, as the server spells them, and their log-probabilities."""
    table = choice.get("logprobs")
    content = table.get("content") if isinstance(table, Mapping) else None
    if not isinstance(content, list):
        return Unusable(
            "expected the log-probabilities of the sampled tokens, came none",
            "If the server has none, leave the option logprobs off.",
        )
    # Thousands of entries a second: checked in one go where nothing is amiss.
    tokens: list[Any] = [entry.get("token") if type(entry) is dict else None for entry in content]
    values: list[Any] = [entry.get("logprob") if type(entry) is dict else None for entry in content]
    if not are_logprobs(values) or not set(map(type, tokens)) <= {str}:
        for place, (token, value) in enumerate(zip(tokens, values, strict=True)):
            if not isinstance(token, str) or not is_logprob(value):
                return Unusable(
                    f"expected a token and its log-probability at place {place} of "
                    f"{len(content)}, came {excerpt(repr(content[place]))}"
                )
    return tuple(tokens), tuple(map(float, values))


def are_logprobs(values: Sequence[Any]) -> bool:
    """Whether :func:`is_logprob` holds of all values, sooner said than one by one."""
    if not values:
        return True
    if not set(map(type, values)) <= {int, float} or not math.isfinite(sum(values)):
        return False
    return min(values) > -9999.0 and max(values) <= _ROUNDING


def is_logprob(value: Any) -> TypeGuard[float]:
    """Whether a value is a log-probability: finite, not above 0, and not vLLM's filler.

    vLLM writes -9999.0 where it has none or it is minus infinity
    (``ChatCompletionLogProb.logprob``), which a sampled token cannot have.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and -9999.0 < value <= _ROUNDING


def read_ids(value: Any) -> tuple[int, ...] | Unusable:
    """A list of token ids that is not empty."""
    if not isinstance(value, list) or not value or set(map(type, value)) != {int} or min(value) < 0:
        return Unusable(f"expected a list of token ids, came {excerpt(repr(value))}")
    return tuple(value)


def model_names(data: Mapping[str, Any]) -> tuple[str, ...] | Unusable:
    """The ids in a list of models."""
    models = data.get("data")
    if not isinstance(models, Sequence) or isinstance(models, str):
        return Unusable(f"expected a list of models, came {excerpt(repr(data))}")
    names = [model.get("id") if isinstance(model, Mapping) else None for model in models]
    if not all(isinstance(name, str) for name in names):
        return Unusable(f"expected models with an id, came {excerpt(repr(models))}")
    return tuple(str(name) for name in names)


def _read_choice(choice: Mapping[str, Any], logprobs: bool) -> Completion | Unusable:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return Unusable(f"expected a message in every choice, came {excerpt(repr(message))}")
    finish = read_finish(choice)
    if isinstance(finish, Unusable):
        return finish
    text = message.get("content")
    if not isinstance(text, str):
        return _no_content(message, text, finish)
    values: tuple[float, ...] = ()
    if logprobs:
        tokens = read_logprobs(choice)
        if isinstance(tokens, Unusable):
            return tokens
        if text and not tokens[0]:
            return Unusable(f"expected log-probabilities of {excerpt(text)!r}, came none")
        values = tokens[1]
    return Completion(text, logprobs=values, finish_reason=finish)


def _no_content(message: Mapping[str, Any], came: Any, finish: str) -> Unusable:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        return Unusable(
            f"expected text, came none: the model wrote {len(thought)} characters of reasoning "
            f"and then ended (finish_reason {finish!r})",
            "Raise max_tokens, or let it think less: "
            "extra_body={'reasoning_effort': 'low'} where the server takes it.",
        )
    if isinstance(message.get("refusal"), str):
        return Unusable(f"expected text, came a refusal: {excerpt(message['refusal'])!r}")
    return Unusable(f"expected text, came {excerpt(repr(came))}")
