"""vLLM's tokens-in, tokens-out endpoint: what goes in, and what came out, checked.

The prompt is sent as token ids and the picture beside it, so what a model wrote can never be
read as a control word of the chat template, and the ids are those of
:mod:`agents.encoding`. Fields: ``vllm/entrypoints/scale_out/token_in_token_out/protocol.py``
of vLLM 0.31.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from agents.chat_format import in_order, is_logprob, read_finish, read_ids, read_logprobs
from agents.http_faults import Unusable, excerpt
from mmzero_env.protocol import Sampling

GENERATE = "/inference/v1/generate"
# vLLM adds a bias to the logits and cuts it to ±100 (``SamplingParams.logit_bias``).
_NEVER, _ALWAYS = -100.0, 100.0
# As torch takes them: vLLM samples completion k with the seed + k.
_SEEDS = 2**62
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Sampled:
    """One completion as the engine sampled it; see :class:`mmzero_env.protocol.Completion`."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is sent.

    Attributes:
        token_ids: One placeholder stands for the picture.
        picture: Place of that placeholder, or None without a picture.
        url: The picture as a data URL, or None.
    """

    token_ids: tuple[int, ...]
    picture: int | None = None
    url: str | None = None

    def expanded(self, ids: Sequence[int]) -> bool:
        """Whether ids are this prompt with its placeholder written out."""
        if self.picture is None:
            return tuple(ids) == self.token_ids
        before, after = self.token_ids[: self.picture], self.token_ids[self.picture + 1 :]
        return (
            len(ids) >= len(self.token_ids)
            and tuple(ids[: len(before)]) == before
            and tuple(ids[len(ids) - len(after) :]) == after
            and self.token_ids[self.picture] in ids[len(before) : len(ids) - len(after)]
        )


def sampling_params(
    sampling: Sampling, *, n: int, seed: int, stop_ids: Sequence[int], banned_ids: Sequence[int]
) -> dict[str, Any]:
    """What vLLM calls the sampling of ``n`` completions, by the names of its ``SamplingParams``.

    Args:
        sampling: How to sample.
        n: Completions.
        seed: Of the first completion.
        stop_ids: Tokens that end a completion.
        banned_ids: Tokens that are never sampled.
    """
    return {
        "n": n,
        "seed": seed % _SEEDS,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens,
        "logprobs": 0,
        "detokenize": False,
        "stop_token_ids": list(stop_ids),
        "logit_bias": dict.fromkeys(banned_ids, _NEVER),
    }


def score_params() -> dict[str, Any]:
    """A sampling of one token that also gives the log-probabilities of the prompt's own."""
    return {
        "n": 1,
        "seed": 0,
        "temperature": 1.0,
        "max_tokens": 1,
        "logprobs": 0,
        "prompt_logprobs": 0,
        "detokenize": False,
    }


def generate_body(
    request_id: str,
    model: str,
    prompt: Prompt,
    sampling: Sampling,
    *,
    n: int,
    seed: int,
    stop_ids: Sequence[int],
    banned_ids: Sequence[int],
) -> bytes:
    """The JSON of a request for ``n`` completions.

    Args:
        request_id: Of the request.
        model: Served name of the base model or an adapter.
        prompt: What it reads.
        sampling: See :func:`sampling_params`.
        n: See there.
        seed: See there.
        stop_ids: See there.
        banned_ids: See there.
    """
    params = sampling_params(sampling, n=n, seed=seed, stop_ids=stop_ids, banned_ids=banned_ids)
    return _body(request_id, model, prompt, params)


def probe_body(request_id: str, model: str, prompt: Prompt, token: int) -> bytes:
    """A request whose one token is forced, to see which log-probabilities the server gives."""
    params = {
        "n": 1,
        "seed": 0,
        "temperature": 1.0,
        "max_tokens": 1,
        "logprobs": 0,
        "detokenize": False,
        "logit_bias": {str(token): _ALWAYS},
    }
    return _body(request_id, model, prompt, params)


def score_body(request_id: str, model: str, prompt: Prompt) -> bytes:
    """A request for the log-probabilities of a prompt's own tokens."""
    return _body(request_id, model, prompt, score_params())


def _body(request_id: str, model: str, prompt: Prompt, params: Mapping[str, Any]) -> bytes:
    body: dict[str, Any] = {
        "request_id": request_id,
        "model": model,
        "token_ids": list(prompt.token_ids),
        "sampling_params": params,
        "return_token_ids": True,
    }
    if prompt.url is not None:
        body["content_parts"] = [{"type": "image_url", "url": prompt.url}]
    return _ENCODER.encode(body)


def read_generated(
    data: Mapping[str, Any], request_id: str, model: str, prompt: Prompt, n: int
) -> tuple[tuple[int, ...], tuple[Sampled, ...]] | Unusable:
    """Read an answer to :func:`generate_body`.

    Returns:
        The prompt's ids with the picture written out and exactly ``n`` completions, or why
        it cannot be used.
    """
    prompt_ids = _read_prompt(data, request_id, model, prompt)
    if isinstance(prompt_ids, Unusable):
        return prompt_ids
    choices = in_order(data, n)
    if isinstance(choices, Unusable):
        return choices
    if len(choices) < n:
        return Unusable(f"expected {n} choices, came {len(choices)}")
    completions = []
    for choice in choices:
        completion = _read_choice(choice)
        if isinstance(completion, Unusable):
            return completion
        completions.append(completion)
    return prompt_ids, tuple(completions)


def read_scores(
    data: Mapping[str, Any], request_id: str, model: str, prompt: Prompt, last: int
) -> tuple[tuple[int, ...], tuple[float, ...]] | Unusable:
    """Read an answer to :func:`score_body`.

    Returns:
        The prompt's ids with the picture written out and without the ``last`` ones, and the
        log-probabilities of those; or why it cannot be used.
    """
    ids = _read_prompt(data, request_id, model, prompt)
    if isinstance(ids, Unusable):
        return ids
    table = data.get("prompt_logprobs")
    if not isinstance(table, list) or len(table) != len(ids):
        came = f"{len(table)}" if isinstance(table, list) else excerpt(repr(table))
        return Unusable(f"expected prompt_logprobs of {len(ids)} tokens, came {came}")
    values = []
    for token, entry in zip(ids[-last:], table[-last:], strict=True):
        found = entry.get(str(token)) if isinstance(entry, Mapping) else None
        value = found.get("logprob") if isinstance(found, Mapping) else None
        if not is_logprob(value):
            return Unusable(
                f"expected the log-probability of token {token}, came {excerpt(repr(entry))}"
            )
        values.append(float(value))
    return ids[:-last], tuple(values)


def _read_prompt(
    data: Mapping[str, Any], request_id: str, model: str, prompt: Prompt
) -> tuple[int, ...] | Unusable:
    """See that an answer is that of our request, and read its prompt."""
    name = str(data.get("request_id", ""))
    if not is_answer_to(name, request_id):
        return Unusable(f"expected an answer to request {request_id!r}, came one to {name!r}")
    if data.get("model") != model:
        return Unusable(f"expected an answer of model {model!r}, came {data.get('model')!r}")
    ids = read_ids(data.get("prompt_token_ids"))
    if isinstance(ids, Unusable):
        return Unusable(f"prompt_token_ids: {ids.reason}")
    if not prompt.expanded(ids):
        return Unusable(
            f"expected the {len(prompt.token_ids)} prompt ids that were sent, picture written "
            f"out, came {excerpt(str(list(ids)))}"
        )
    return ids


def is_answer_to(name: str, request_id: str) -> bool:
    """Whether what an answer says that it answers is a request of ours, or its repetition."""
    if name == f"generate-tokens-{request_id}":
        return True
    bare = re.sub(r"~retry\d*$", "", name)
    return bare in {f"generate-tokens-{text}" for text in (request_id, quote(request_id, safe="/"))}


def _read_choice(choice: Mapping[str, Any]) -> Sampled | Unusable:
    finish = read_finish(choice)
    if isinstance(finish, Unusable):
        return finish
    ids = read_ids(choice.get("token_ids"))
    if isinstance(ids, Unusable):
        return Unusable(f"token_ids of a choice: {ids.reason}")
    tokens = read_logprobs(choice)
    if isinstance(tokens, Unusable):
        return tokens
    names, values = tokens
    if names != tuple([f"token_id:{i}" for i in ids]):
        return Unusable(
            f"expected log-probabilities of the {len(ids)} sampled tokens, came "
            f"{len(names)}: {excerpt(str(list(names)))}"
        )
    return Sampled(ids, values, finish)


def read_models(data: Mapping[str, Any]) -> dict[str, str] | Unusable:
    """Served names and what stands behind each: a folder or a hub id."""
    models = data.get("data")
    if not isinstance(models, list):
        return Unusable(f"expected a list of models, came {excerpt(repr(models))}")
    served = {}
    for model in models:
        name = model.get("id") if isinstance(model, Mapping) else None
        root = model.get("root") if isinstance(model, Mapping) else None
        if not isinstance(name, str) or not isinstance(root, str):
            return Unusable(f"expected models with id and root, came {excerpt(repr(model))}")
        served[name] = root
    return served


def read_tokens(data: Mapping[str, Any]) -> tuple[int, ...] | Unusable:
    """The answer of ``/tokenize``."""
    return read_ids(data.get("tokens"))
