"""A policy for any model behind an OpenAI-compatible endpoint, hosted or local.

    policy = OpenAIPolicy("Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8000")
    responses = policy.generate(requests)

It can play a frozen role and be evaluated. It cannot be trained: chat completions give the
sampled text, not the sampler's token ids.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agents.registry import missing_extra
from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import Completion, Request, Response

try:
    from agents.chat_format import disarm, model_names, read_chat, user_message
    from agents.endpoint_settings import EndpointSettings, checked_url
    from agents.http_faults import Refused
    from agents.http_policy import HttpPolicy, together
    from agents.mends import mend
except ModuleNotFoundError as error:
    raise missing_extra(error, "endpoint") from error
from agents.policy import PolicyError
from agents.usage import Prices

log = logging.getLogger("mmzero")

_HOSTED = "https://api.openai.com/v1"
_OMITTABLE = ("n", "seed", "temperature", "top_p")
_OURS = {"model", "messages", "n", "stream", "seed", "logprobs", "temperature", "top_p", "top_k"}
_N = re.compile(r"['\"`]n['\"`]|\bn ?(?:=|>|must|should|is not)")
# Servers keep seeds in anything from 32 bits with a sign upwards.
_SEEDS = 2**31


class OpenAIPolicy(HttpPolicy):
    """Plays any role through ``/chat/completions``.

    A request for several completions is one HTTP request where the server honours ``n``, and
    several with the seeds ``seed``, ``seed + 1``, … where it does not; which of both is found
    out at the first such request. Words in a prompt that chat templates take for control
    words (``<|im_end|>``) are cut with a zero-width space, since prompts quote what models
    wrote.

    Attributes:
        untrainable: Why a run that would train it is refused.
    """

    untrainable = (
        "an OpenAI-compatible endpoint gives no token ids with log-probabilities, which GRPO "
        "needs; it can play a frozen role and be evaluated"
    )

    def __init__(
        self,
        argument: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        max_open: int = 64,
        timeout: float = 600.0,
        retries: int = 6,
        patience: float = 600.0,
        backoff: float = 0.5,
        name: str | None = None,
        n: int | None = None,
        logprobs: bool = False,
        max_tokens_field: str | None = None,
        top_k: bool = False,
        omit: str | Sequence[str] = (),
        extra_body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        prompt_price: float | None = None,
        completion_price: float | None = None,
    ) -> None:
        """See the class.

        Args:
            argument: ``MODEL@URL``, the URL with or without ``/v1``; without ``@URL`` it is
                OpenAI's own.
            api_key_env: Environment variable with the key, read when a request is made.
            max_open: Most HTTP requests under way at a time.
            timeout: Seconds that an answer may take.
            retries: Attempts after the first, for answers that fail or cannot be used.
            patience: Seconds that a request waits in all for a server that is down or busy.
            backoff: Seconds of the first pause between attempts.
            name: Defaults to ``openai:`` and the argument.
            n: 1 asks for one completion at a time; None for as many as a request wants.
            logprobs: Ask for the log-probabilities of the sampled tokens; an answer without
                them is then not accepted.
            max_tokens_field: ``"max_tokens"`` or ``"max_completion_tokens"``; by default the
                latter for OpenAI's own endpoint, the former for all others.
            top_k: Whether the server takes the field ``top_k``.
            omit: Fields that the server does not take, of ``n``, ``seed``, ``temperature`` and
                ``top_p``; several with a comma between.
            extra_body: More fields of every request.
            headers: More headers of every request; no keys.
            prompt_price: Of a million tokens read, for :attr:`usage`.
            completion_price: Of a million tokens written.

        Raises:
            UserError: If the argument or an option cannot be.
        """
        for option, value in (("extra_body", extra_body), ("headers", headers)):
            if value is not None and not isinstance(value, Mapping):
                raise UserError(f"{option} must be a mapping, came {value!r}")
        model, url = model_and_url(argument)
        hosted = url == _HOSTED
        settings = EndpointSettings(
            timeout=timeout,
            retries=retries,
            patience=patience,
            backoff=backoff,
            api_key_env=api_key_env,
            key_needed=hosted,
            headers=dict(headers or {}),
        )
        super().__init__(
            name or f"openai:{argument}",
            [url],
            settings,
            max_open=max_open,
            prices=Prices(prompt_price, completion_price),
        )
        if n not in (None, 1):
            raise UserError(f"n must be 1 or None, came {n}; requests say how many they want")
        fields = ("max_tokens", "max_completion_tokens")
        self._max_tokens = max_tokens_field or fields[hosted]
        if self._max_tokens not in fields:
            raise unknown("max_tokens_field", self._max_tokens, fields)
        self._omit = set(omit.split(",") if isinstance(omit, str) else omit)
        for field in self._omit - set(_OMITTABLE):
            raise unknown("field to omit", field, _OMITTABLE)
        for field in set(extra_body or {}) & (_OURS | set(fields)):
            raise UserError(f"extra_body cannot set {field!r}: the policy sets it itself")
        self._model, self._logprobs, self._top_k = model, logprobs, top_k
        self._extra_body = dict(extra_body or {})
        self._one_by_one = n == 1 or "n" in self._omit

    def _check(self, request: Request) -> None:
        if request.sampling.top_k and not self._top_k:
            raise UserError(
                f"request {request.id}: top_k is {request.sampling.top_k}, which the API of OpenAI "
                "does not know; set the option top_k=True if this server takes it, or top_k 0"
            )

    async def _answer(self, request: Request) -> Response:
        url = None
        if request.image is not None:
            url = await self._pictures.url(request.image)
        message = user_message(disarm(request.prompt), url)
        if request.n > 1 and not self._one_by_one:
            try:
                done = await self._ask(request, message, n=request.n)
            except Refused as refused:
                if not _about_n(refused):
                    raise
                done = ()
            if len(done) == request.n:
                return Response(request.id, done)
            if not self._one_by_one:
                self._one_by_one = True
                log.warning(
                    "%s gave %d of %d completions of one request; it is now asked for one at a "
                    "time (option n=1 does so from the start)",
                    self.name,
                    len(done),
                    request.n,
                )
        if request.n == 1:
            return Response(request.id, await self._ask(request, message))
        single = [self._ask(request, message, sample=k) for k in range(request.n)]
        return Response(request.id, tuple(done for (done,) in await together(single)))

    async def _ask(
        self, request: Request, message: Mapping[str, Any], *, n: int = 1, sample: int = 0
    ) -> tuple[Completion, ...]:
        """From 1 to ``n`` completions, the first of them that of a sample's number."""
        body = self._body(request, message, n, sample)
        async with self._slots:
            try:
                return await self._endpoints[0].ask(
                    "/chat/completions",
                    lambda data: read_chat(data, n, logprobs=self._logprobs),
                    request_id=f"{request.id}~{sample}" if sample else request.id,
                    body=body,
                )
            except Refused as refused:
                if n > 1 and _about_n(refused):
                    raise
                raise PolicyError(f"{refused}. {await self._mend(refused, request)}") from None

    def _body(
        self, request: Request, message: Mapping[str, Any], n: int, sample: int
    ) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [message],
            "temperature": sampling.temperature,
            self._max_tokens: sampling.max_tokens,
            "seed": (request.seed + sample) % _SEEDS,
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if n > 1:
            body["n"] = n
        if self._logprobs:
            body["logprobs"] = True
        return {k: v for k, v in body.items() if k not in self._omit} | self._extra_body

    async def _mend(self, refused: Refused, request: Request) -> str:
        served = None
        if refused.status in (400, 404):
            try:
                served = await self._endpoints[0].ask(
                    "/models", model_names, request_id=f"{request.id}~models"
                )
            except PolicyError:
                pass
        key_env = self._settings.api_key_env
        return mend(
            refused,
            model=self._model,
            served=served,
            max_tokens=request.sampling.max_tokens,
            api_key_env=key_env,
            key_set=bool(os.environ.get(key_env)),
            omittable=_OMITTABLE,
        )


def model_and_url(argument: str) -> tuple[str, str]:
    """Model and base URL of ``MODEL@URL``.

    Raises:
        UserError: If the argument is no such pair.
    """
    model, _, url = argument.partition("@http")
    url = f"http{url}" if url else _HOSTED
    if not model or re.search(r"\s", argument):
        raise UserError(
            f"expected 'openai:MODEL@URL' such as openai:qwen3-vl@http://127.0.0.1:8000, "
            f"came {argument!r}"
        )
    if "@" in model and "://" in model:
        raise UserError(f"the URL of 'openai:MODEL@URL' must be http or https, came {argument!r}")
    url = checked_url(url)
    return model, url if re.search(r"://[^/]+/", url) else f"{url}/v1"


def _about_n(refused: Refused) -> bool:
    """Whether the server refused to give several completions at once."""
    error = refused.error
    return refused.status in (400, 422) and (
        error.param.rpartition(".")[2] == "n" or bool(_N.search(error.message))
    )
