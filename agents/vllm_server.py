"""One vLLM server: what it serves, whether it samples as training needs it, its adapters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from agents.endpoint import Endpoint
from agents.http_faults import Read, Refused, Unusable
from agents.mends import mend
from agents.policy import PolicyError
from agents.vllm_format import (
    GENERATE,
    Prompt,
    probe_body,
    read_generated,
    read_models,
    read_tokens,
)
from agents.vocabulary import Vocabulary

T = TypeVar("T")

PROBE = "A picture of 7 zebras."
# A forced token has the log-probability 0 under the distribution that it was drawn from.
_FORCED = 1e-3


class VllmServer:
    """Talks to one ``vllm serve``. To be used from one event loop.

    Attributes:
        endpoint: The connection.
        adapters: Path of every adapter that has to be loaded, by its served name.
        base_name: Served name of the base model, known when it is ready.
        processed: Whether its log-probabilities are those of its sampler.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        base: str,
        *,
        vocabulary: Callable[[str], Awaitable[Vocabulary]],
        training: bool,
        api_key_env: str,
    ) -> None:
        """See the class.

        Args:
            endpoint: The connection.
            base: Served name of the base model, or the folder that it was loaded from.
            vocabulary: Called with what the server loaded the base from.
            training: Whether its log-probabilities must be those of the sampler.
            api_key_env: For messages.
        """
        self.endpoint, self.base, self.base_name = endpoint, base, ""
        self.processed = False
        self.adapters: dict[str, str] = {}
        self._vocabulary, self._training, self._key_env = vocabulary, training, api_key_env
        self._ready = Shared(self._check)
        self._restored = Shared(self._load_lost)
        self._checked = -1

    async def ready(self) -> None:
        """Wait until the server answers, and see that it is the right one.

        Raises:
            PolicyError: If it does not answer in time, or cannot serve this policy.
        """
        if self._checked != self.endpoint.circuit.epoch:
            await self._ready()

    async def ask(
        self,
        adapter: str | None,
        request_id: str,
        body: Callable[[str], bytes],
        parse: Callable[[Mapping[str, Any], str], T | Unusable],
        *,
        quick: Callable[[bytes, str], Read[T] | None] | None = None,
        max_tokens: int = 1,
    ) -> T:
        """Send a request for tokens, loading adapters again that a restart has lost.

        Args:
            adapter: Served name of the adapter, None for the base model.
            request_id: Of the request.
            body: Makes the JSON for a served name.
            parse: Reads the answer of a served name.
            quick: See :meth:`agents.endpoint.Endpoint.ask`.
            max_tokens: For messages.

        Raises:
            PolicyError: See :meth:`agents.endpoint.Endpoint.ask`.
        """
        for _ in range(self.endpoint.settings.retries + 1):
            await self.ready()
            model = adapter or self.base_name
            try:
                answer = await self.endpoint.ask(
                    GENERATE,
                    lambda data, model=model: parse(data, model),
                    request_id=request_id,
                    body=body(model),
                    quick=lambda content, model=model: quick(content, model) if quick else None,
                )
            except Refused as refused:
                if model in self.adapters and refused.error.param == "model":
                    await self._restored()
                    continue
                raise await self._explained(refused, model, max_tokens) from None
            # It may be another server by now than the one that was looked at.
            await self.ready()
            return answer
        raise PolicyError(
            f"request {request_id!r}: {self.endpoint.url} lost adapter {adapter!r} again and again "
            "although it was loaded each time; see that --max-loras is at least the number of "
            "adapters in use, and look into the server's log"
        )

    async def load(self, name: str, path: str) -> None:
        """Load an adapter, and again whenever the server has lost it.

        Raises:
            PolicyError: If the server does not take it.
        """
        await self.ready()
        try:
            await self._load(name, path)
        except BaseException:
            self.adapters.pop(name, None)
            raise

    async def unload(self, name: str) -> None:
        """Unload an adapter; one that is not there is as good."""
        self.adapters.pop(name, None)
        try:
            await self.endpoint.ask(
                "/v1/unload_lora_adapter",
                str,
                request_id=f"unload {name}",
                body={"lora_name": name},
                plain=True,
            )
        except Refused as refused:
            if refused.status != 404:
                raise

    async def _load(self, name: str, path: str) -> None:
        self.adapters[name] = path
        try:
            await self.endpoint.ask(
                "/v1/load_lora_adapter",
                str,
                request_id=f"load {name}",
                body={"lora_name": name, "lora_path": path},
                plain=True,
            )
        except Refused as refused:
            # The answer to an attempt that worked may have been lost.
            if (await self._models()).get(name) == path:
                return
            if refused.status == 404 and not refused.error.code:
                mended = (
                    "Start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its "
                    "environment, bound to loopback."
                )
            else:
                mended = "The path must be readable where the server runs, the name new to it."
            raise PolicyError(f"{refused}. {mended}") from None

    async def _load_lost(self) -> None:
        served = await self._models()
        for name, path in list(self.adapters.items()):
            if served.get(name) == path:
                continue
            if name in served:
                raise PolicyError(
                    f"{self.endpoint.url} serves adapter {name!r} from {served[name]}, expected "
                    f"{path}; each version of an adapter needs a name of its own"
                )
            await self._load(name, path)

    async def _models(self) -> dict[str, str]:
        return await self.endpoint.ask("/v1/models", read_models, request_id="models")

    async def _check(self) -> None:
        """One look at a server that is new to us."""
        try:
            served = await self._models()
        except Refused as refused:
            if refused.status == 404:
                text = f"{refused}. See that a vLLM server is at that address."
                raise PolicyError(text) from None
            raise await self._explained(refused, self.base, 1) from None
        epoch = self.endpoint.circuit.epoch
        self.base_name = self._find_base(served)
        vocabulary = await self._vocabulary(served[self.base_name])
        ids = vocabulary.encoder.unexpanded(PROBE, with_image=False)
        await self._check_tokenizer(ids)
        await self._check_sampler(Prompt(ids), vocabulary)
        self._checked = epoch

    def _find_base(self, served: Mapping[str, str]) -> str:
        if self.base in served:
            return self.base
        folder = os.path.realpath(self.base)
        for name, root in served.items():
            if os.path.isdir(self.base) and os.path.realpath(root) == folder:
                return name
        raise PolicyError(
            f"{self.endpoint.url} does not serve {self.base!r}; it serves "
            f"{', '.join(served) or 'nothing'}. Name one of these as BASE in 'vllm:BASE@URL', or "
            "start vLLM with --served-model-name."
        )

    async def _check_tokenizer(self, ids: tuple[int, ...]) -> None:
        content = [{"type": "text", "text": PROBE}]
        body = {"model": self.base_name, "messages": [{"role": "user", "content": content}]}
        try:
            came = await self.endpoint.ask(
                "/tokenize", read_tokens, request_id="probe/tokenizer", body=body
            )
        except Refused as refused:
            raise await self._explained(refused, self.base_name, 1) from None
        if came != ids:
            raise PolicyError(
                f"{self.endpoint.url} reads a prompt as {list(came)}, expected {list(ids)}: its "
                "tokenizer or chat template is another. Name the tokenizer of the served model "
                "with the option tokenizer, and start vLLM without --chat-template."
            )

    async def _check_sampler(self, prompt: Prompt, vocabulary: Vocabulary) -> None:
        """Force a token: only the sampler's own distribution gives it probability 1."""
        forced = vocabulary.tokenizer("z", add_special_tokens=False)["input_ids"][0]
        name = self.base_name
        try:
            _, (sampled,) = await self.endpoint.ask(
                GENERATE,
                lambda data: read_generated(data, "probe/sampler", name, prompt, 1),
                request_id="probe/sampler",
                body=probe_body("probe/sampler", name, prompt, forced),
            )
        except Refused as refused:
            raise await self._explained(refused, name, 1) from None
        self.processed = sampled.token_ids == (forced,) and sampled.logprobs[0] > -_FORCED
        if self._training and not self.processed:
            raise PolicyError(
                f"{self.endpoint.url} gives log-probabilities that are not those of its sampler: a "
                f"forced token has {sampled.logprobs[0]:.3f}, expected 0. Start vLLM with "
                "--logprobs-mode processed_logprobs, or set training=False for a role that is "
                "not trained."
            )

    async def _explained(self, refused: Refused, model: str, max_tokens: int) -> PolicyError:
        if refused.status == 404 and not refused.error.code:
            return PolicyError(
                f"{refused}. Prompts go in and completions come out as tokens here: start vLLM "
                "(0.31 or newer) with --enable-scale-out, bound to loopback."
            )
        served = tuple(await self._models()) if refused.status == 404 else None
        key = os.environ.get(self._key_env, "")
        text = mend(
            refused,
            model=model,
            served=served,
            max_tokens=max_tokens,
            api_key_env=self._key_env,
            key_set=bool(key),
        )
        return PolicyError(f"{refused}. {text}")


class Shared:
    """Work that many wait for and one does; who comes while it runs shares its outcome."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        """See the class."""
        self._work = work
        self._running: asyncio.Future[None] | None = None

    async def __call__(self) -> None:
        """Wait for the outcome."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._work())
        await asyncio.shield(self._running)
