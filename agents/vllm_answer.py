"""The short way to read an answer of vLLM's tokens-in, tokens-out endpoint.

An answer carries an object a sampled token. Decoded into what is read of it, and not into
dictionaries, it takes a fifth of the time and leaves nothing for the garbage collector to walk
through. :func:`read_quickly` takes only what :func:`agents.vllm_format.read_generated` takes,
with the same result; whatever else came is left to that, which says what is wrong with it.
"""

from __future__ import annotations

import msgspec

from agents.chat_format import are_logprobs
from agents.http_faults import Read
from agents.vllm_format import Prompt, Sampled, is_answer_to

_FINISHES = ("stop", "length")


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float


class _Table(msgspec.Struct, gc=False):
    content: list[_Token]


class _Choice(msgspec.Struct, gc=False):
    index: int
    token_ids: tuple[int, ...]
    logprobs: _Table
    finish_reason: str


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int


class _Answer(msgspec.Struct, gc=False):
    request_id: str
    model: str
    choices: list[_Choice]
    prompt_token_ids: tuple[int, ...]
    usage: _Usage


_DECODER = msgspec.json.Decoder(_Answer)


def read_quickly(
    content: bytes, request_id: str, model: str, prompt: Prompt, n: int
) -> Read[tuple[tuple[int, ...], tuple[Sampled, ...]]] | None:
    """Read the JSON of an answer in which nothing is amiss.

    Args:
        content: The JSON.
        request_id: See :func:`agents.vllm_format.read_generated`.
        model: See there.
        prompt: See there.
        n: See there.

    Returns:
        What :func:`agents.vllm_format.read_generated` gives and the tokens that were used, or
        None if this is not for here.
    """
    try:
        answer = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    ids, usage = answer.prompt_token_ids, answer.usage
    if (
        answer.model != model
        or len(answer.choices) != n
        or min(usage.prompt_tokens, usage.completion_tokens) < 0
        or not is_answer_to(answer.request_id, request_id)
        or not _are_ids(ids)
        or not prompt.expanded(ids)
    ):
        return None
    completions = []
    for place, choice in enumerate(answer.choices):
        table = choice.logprobs.content
        values = [entry.logprob for entry in table]
        if (
            choice.index != place
            or choice.finish_reason not in _FINISHES
            or not _are_ids(choice.token_ids)
            or not are_logprobs(values)
            or [entry.token for entry in table] != [f"token_id:{i}" for i in choice.token_ids]
        ):
            return None
        completions.append(Sampled(choice.token_ids, tuple(values), choice.finish_reason))
    return Read((ids, tuple(completions)), usage.prompt_tokens, usage.completion_tokens)


def _are_ids(ids: tuple[int, ...]) -> bool:
    return bool(ids) and min(ids) >= 0
