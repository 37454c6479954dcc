"""One vLLM server: what it serves, whether it samples as training needs it, its weights.

A server that takes weights of the whole model has a served name of its own for each start of
it, ``NAME~`` and eight hexadecimal digits, before its usual name. Requests ask for that one. A
server that was restarted, and so has the weights it was started with, refuses it; the newest
weights are then loaded before it is asked again.
"""

from __future__ import annotations

import asyncio
import os
import re
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
from agents.vllm_weights import load_weights
from agents.vocabulary import Vocabulary

T = TypeVar("T")

_MODELS = "models"
_START = re.compile(r"~[0-9a-f]{8}$")
PROBE = "A picture of 7 zebras."
# A forced token has the log-probability 0 under the distribution that it was drawn from.
_FORCED = 1e-3


class VllmServer:
    """Talks to one ``vllm serve``. To be used from one event loop.

    Attributes:
        endpoint: The connection.
        adapters: Path of every adapter that has to be loaded, by its served name.
        weights: Folder of the weights that it has to play with, None for those it has.
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
        self.weights: str | None = None
        self._vocabulary, self._training, self._key_env = vocabulary, training, api_key_env
        self._ready = Shared(self._check)
        self._restored = Shared(self._load_lost)
        self._checked: tuple[int, str | None] | None = None
        self._held: tuple[str, str] | None = None

    async def ready(self) -> None:
        """Wait until the server answers, and see that it is the right one.

        Raises:
            PolicyError: If it does not answer in time, or cannot serve this policy.
        """
        if self._checked != (self.endpoint.circuit.epoch, self.weights):
            await self._ready()
        # The look that was shared may have begun before these weights were wanted.
        while self._checked is None or self._checked[1] != self.weights:
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
                if _gone(refused, model):
                    self._checked = None
                    continue
                raise await self._explained(refused, model, max_tokens) from None
            # It may be another server by now than the one that was looked at.
            await self.ready()
            return answer
        if adapter is None:
            raise self._restless(request_id)
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

    async def load_weights(self, path: str) -> None:
        """Play with other weights from now on, and after every restart of the server.

        Open requests are answered before; nothing that was computed with the old weights is
        used again.

        Args:
            path: A model folder, readable where the server runs, new with each version.

        Raises:
            PolicyError: If the server does not take them; it is then given those before when
                it is used again.
        """
        before, self.weights = self.weights, path
        try:
            await self.ready()
        except BaseException:
            self.weights, self._held, self._checked = before, None, None
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
        return await self.endpoint.ask("/v1/models", read_models, request_id=_MODELS)

    async def _check(self) -> None:
        """One look at a server that is new to us; another one if it is restarted meanwhile."""
        for _ in range(self.endpoint.settings.retries + 1):
            try:
                return await self._look()
            except Refused as refused:
                if refused.status == 404 and refused.request_id == _MODELS:
                    text = f"{refused}. See that a vLLM server is at that address."
                    raise PolicyError(text) from None
                if not _gone(refused, self.base_name):
                    name = self.base_name or self.base
                    raise await self._explained(refused, name, 1) from None
        raise self._restless("probe")

    async def _look(self) -> None:
        served = await self._models()
        epoch, weights = self.endpoint.circuit.epoch, self.weights
        before, self.base_name = self.base_name, self._find_base(served)
        vocabulary = await self._vocabulary(served[self.base_name])
        if weights is not None:
            await self._hold(weights)
        elif before not in ("", self.base_name):
            raise PolicyError(
                f"{self.endpoint.url} was {before!r} and is {self.base_name!r} now: it was "
                "restarted, and what weights it had before is not known here. Whoever loaded them "
                "has to do so again; make the policy again to play with what it has now"
            )
        ids = vocabulary.encoder.unexpanded(PROBE, with_image=False)
        await self._check_tokenizer(ids)
        await self._check_sampler(Prompt(ids), vocabulary)
        self._checked = (epoch, weights)

    async def _hold(self, weights: str) -> None:
        """See that this start of the server has weights."""
        if self._held == (self.base_name, weights):
            return
        if not _START.search(self.base_name):
            raise PolicyError(
                f"{self.endpoint.url} serves {self.base_name!r} and cannot be told from what a "
                "restart makes of it, so it is given no weights. Start it by mmzero serve, or with "
                "two served names: --served-model-name NAME~$(openssl rand -hex 4) NAME"
            )
        self._held = None
        await load_weights(self.endpoint, weights)
        self._held = (self.base_name, weights)

    def _find_base(self, served: Mapping[str, str]) -> str:
        folder = os.path.realpath(self.base) if os.path.isdir(self.base) else None
        names = [
            name
            for name, root in served.items()
            if _START.sub("", name) == self.base or os.path.realpath(root) == folder
        ]
        if names:
            return next((name for name in names if _START.search(name)), names[0])
        raise PolicyError(
            f"{self.endpoint.url} does not serve {self.base!r}; it serves "
            f"{', '.join(served) or 'nothing'}. Name one of these as BASE in 'vllm:BASE@URL', or "
            "start vLLM with --served-model-name."
        )

    async def _check_tokenizer(self, ids: tuple[int, ...]) -> None:
        content = [{"type": "text", "text": PROBE}]
        body = {"model": self.base_name, "messages": [{"role": "user", "content": content}]}
        came = await self.endpoint.ask(
            "/tokenize", read_tokens, request_id="probe/tokenizer", body=body
        )
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
        _, (sampled,) = await self.endpoint.ask(
            GENERATE,
            lambda data: read_generated(data, "probe/sampler", name, prompt, 1),
            request_id="probe/sampler",
            body=probe_body("probe/sampler", name, prompt, forced),
        )
        self.processed = sampled.token_ids == (forced,) and sampled.logprobs[0] > -_FORCED
        if self._training and not self.processed:
            raise PolicyError(
                f"{self.endpoint.url} gives log-probabilities that are not those of its sampler: a "
                f"forced token has {sampled.logprobs[0]:.3f}, expected 0. Start vLLM with "
                "--logprobs-mode processed_logprobs, or set training=False for a role that is "
                "not trained."
            )

    def _restless(self, request_id: str) -> PolicyError:
        return PolicyError(
            f"request {request_id!r}: {self.endpoint.url} was restarted again and again; look into "
            "its log"
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


def _gone(refused: Refused, name: str) -> bool:
    """Whether a name of one start of a server is not served any more: it was restarted."""
    return bool(_START.search(name)) and refused.error.param == "model"


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
