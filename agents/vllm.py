"""A policy for one or several vLLM servers on the same base model.

    policy = VllmPolicy("nano@http://127.0.0.1:8000,http://127.0.0.1:8001")
    policy.load_adapter("solver", "solver-1", "runs/…/solver/1")
    responses = policy.generate(requests)

Start each server with ``vllm serve BASE --enable-scale-out --logprobs-mode
processed_logprobs``; for roles as adapters add ``--enable-lora`` and set
``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``. These are administration surfaces: bind to loopback.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from zlib import crc32

from agents.registry import missing_extra
from mmzero_env.errors import UserError
from mmzero_env.protocol import Completion, Request, Response, Role

try:
    from agents.endpoint_settings import EndpointSettings
    from agents.http_policy import HttpPolicy, together
    from agents.vllm_format import Prompt, generate_body, read_generated, read_scores, score_body
    from agents.vllm_server import VllmServer
    from agents.vocabulary import Vocabulary
except ModuleNotFoundError as error:
    raise missing_extra(error, "endpoint") from error
from agents.policy import PolicyError, roles_of
from agents.usage import Prices

log = logging.getLogger("mmzero")

_PROMPTS_KEPT = 1024


class VllmPolicy(HttpPolicy):
    """Plays the roles with one base model, each role with its own LoRA adapter or none.

    Which server answers a request is fixed by the request's id; only while that server is
    down do new requests go to the next one. Before its first request, and after it was down,
    a server is looked at: does it serve the base, does it tokenise as we do, and are its
    log-probabilities those of its sampler?
    """

    def __init__(
        self,
        argument: str,
        *,
        max_open: int = 256,
        timeout: float = 600.0,
        retries: int = 6,
        patience: float = 600.0,
        backoff: float = 0.5,
        name: str | None = None,
        training: bool = True,
        tokenizer: str | None = None,
        proposer: str | None = None,
        coder: str | None = None,
        solver: str | None = None,
        api_key_env: str = "VLLM_API_KEY",
    ) -> None:
        """See the class.

        Args:
            argument: ``BASE@URL`` or ``BASE@URL,URL,…``: the served name of the base model, or
                the folder that it was loaded from, and the servers.
            max_open: Most HTTP requests under way at a time.
            timeout: Seconds that an answer may take.
            retries: Attempts after the first, for answers that fail or cannot be used.
            patience: Seconds that a request waits in all for a server that is down or busy;
                a server that still starts is waited for as well.
            backoff: Seconds of the first pause between attempts.
            name: Defaults to ``vllm:`` and the argument.
            training: Refuse sampling that would bias GRPO's ratios (``top_p`` below 1,
                ``top_k``) and log-probabilities that are not those of the sampler.
            tokenizer: Folder or hub id; by default what the server loaded the base from.
            proposer: Served name of an adapter (or model) that the servers have already.
            coder: The same for the Coder.
            solver: The same for the Solver.
            api_key_env: Environment variable with the servers' key, if they want one.

        Raises:
            UserError: If the argument or an option cannot be.
        """
        base, urls = _parts(argument)
        settings = EndpointSettings(
            timeout=timeout,
            retries=retries,
            patience=patience,
            backoff=backoff,
            api_key_env=api_key_env,
        )
        self._base, self._tokenizer, self._training = base, tokenizer, training
        given: Mapping[Role, str | None] = {"proposer": proposer, "coder": coder, "solver": solver}
        self._adapters: dict[Role, str] = {r: text for r, text in given.items() if text}
        self._paths: dict[str, str] = {}
        self._retired: set[str] = set()
        self._vocabulary: Vocabulary | None = None
        super().__init__(
            name or f"vllm:{argument}", urls, settings, max_open=max_open, prices=Prices()
        )

    def _start(self) -> None:
        super()._start()
        self._servers = [
            VllmServer(
                endpoint,
                self._base,
                vocabulary=self._load_vocabulary,
                training=self._training,
                api_key_env=self._settings.api_key_env,
            )
            for endpoint in self._endpoints
        ]
        for server in self._servers:
            server.adapters.update(self._paths)
        self._users: Counter[str] = Counter()
        self._chores: set[asyncio.Task[None]] = set()
        self._loading = asyncio.Lock()

    @property
    def adapters(self) -> Mapping[Role, str]:
        """Served adapter name of each role; a role that is absent plays with the base model."""
        return MappingProxyType(dict(self._adapters))

    @property
    def served(self) -> Mapping[Role, tuple[str, str]]:
        """Served name and path of each adapter that :meth:`load_adapter` loaded, for others."""
        return MappingProxyType(
            {
                role: (name, self._paths[name])
                for role, name in self._adapters.items()
                if name in self._paths
            }
        )

    def follow(self, adapters: Mapping[Role, tuple[str, str]]) -> None:
        """Play roles with adapters that another client of the same servers has loaded.

        Nothing is loaded now and nothing is ever unloaded; a server that has lost an adapter
        by a restart is given it again.

        Args:
            adapters: What the other client's :attr:`served` says. A role that is absent goes
                on as it did.

        Raises:
            UserError: If a role is unknown.
        """
        if adapters:
            roles_of(tuple(adapters))
        self._background.submit(self._take_over(dict(adapters))).result()

    def connect(self) -> None:
        """Wait until every server answers, and see that each can serve this policy.

        Raises:
            PolicyError: If one does not answer within ``patience``, or cannot.
        """

        async def ready() -> None:
            await together([server.ready() for server in self._servers])

        self._background.submit(ready()).result()

    def load_adapter(self, role: Role | tuple[Role, ...], name: str, path: str) -> None:
        """Switch a role to a new version of its adapter.

        Every server loads it before the role is switched; the old version is unloaded once
        no open request uses it, and its files must stay until then.

        Args:
            role: Who plays with it from now on, one or several.
            name: Served name, new with each version.
            path: Folder of the adapter, readable where the servers run; new with each
                version, since vLLM's cache of prefixes knows an adapter by name and path.

        Raises:
            UserError: If the role is unknown or name or path were used before.
            PolicyError: If a server does not take it; the role is then not switched.
        """
        roles = roles_of(role)
        path = os.path.abspath(path)
        if name in self._paths or path in self._paths.values() or name in self._adapters.values():
            raise UserError(
                f"adapter {name!r} at {path}: each version needs a new name and a new path, "
                "since vLLM keeps what it computed with the old one"
            )
        self._background.submit(self._switch(roles, name, path)).result()

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Log-probabilities that the engine gives to fixed tokens after a prompt.

        Args:
            request: Its role, prompt and image are read.
            completion_ids: At least one token, none of them banned.

        Returns:
            The prompt's ids, picture written out, and the natural-log probability of each
            completion token at temperature 1, no token being banned.

        Raises:
            UserError: If there are no tokens.
            PolicyError: As for any request.
        """
        if not completion_ids:
            raise UserError("score needs at least one completion token, came none")
        return self._background.submit(self._score(request, tuple(completion_ids))).result()

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        if self._training and (sampling.top_p < 1 or sampling.top_k > 0):
            raise UserError(
                f"request {request.id}: top_p {sampling.top_p} and top_k {sampling.top_k} truncate "
                "the distribution, which biases the importance ratios of GRPO; sample with top_p 1 "
                "and top_k 0, or make the policy with training=False"
            )

    async def _answer(self, request: Request) -> Response:
        async with self._slots:
            adapter = self._adapters.get(request.role)
            self._users[adapter or ""] += 1
            try:
                return await self._sample(request, adapter)
            finally:
                self._users[adapter or ""] -= 1
                self._unload_unused()

    async def _sample(self, request: Request, adapter: str | None) -> Response:
        server = self._server(request.id)
        await server.ready()
        vocabulary, prompt = await self._prompt(request)
        prompt_ids, completions = await server.ask(
            adapter,
            request.id,
            lambda model: generate_body(
                request.id,
                model,
                prompt,
                request.sampling,
                n=request.n,
                seed=request.seed,
                stop_ids=vocabulary.stop_ids,
                banned_ids=vocabulary.banned_ids,
            ),
            lambda data, model: read_generated(data, request.id, model, prompt, request.n),
            max_tokens=request.sampling.max_tokens,
        )
        return Response(
            request.id,
            tuple(
                Completion(
                    vocabulary.text(done.token_ids),
                    done.token_ids,
                    done.logprobs if server.processed else (),
                    done.finish_reason,
                )
                for done in completions
            ),
            prompt_ids,
        )

    async def _score(
        self, request: Request, completion: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        server = self._server(request.id)
        await server.ready()
        _, prompt = await self._prompt(request)
        whole = Prompt(prompt.token_ids + completion, prompt.picture, prompt.url)
        return await server.ask(
            self._adapters.get(request.role),
            request.id,
            lambda model: score_body(request.id, model, whole),
            lambda data, model: read_scores(data, request.id, model, whole, len(completion)),
        )

    def _server(self, request_id: str) -> VllmServer:
        """The server of a request: by its id, or the next one that is not down."""
        first = crc32(request_id.encode("utf-8", "surrogatepass")) % len(self._servers)
        turn = self._servers[first:] + self._servers[:first]
        return next((server for server in turn if not server.endpoint.circuit.down), turn[0])

    async def _prompt(self, request: Request) -> tuple[Vocabulary, Prompt]:
        vocabulary = self._vocabulary
        assert vocabulary is not None, "a server that is ready has told us the tokenizer"
        with_image = request.image is not None
        ids = self._ids(request.prompt, with_image=with_image)
        if request.image is None:
            return vocabulary, Prompt(ids)
        if ids.count(vocabulary.image_token_id or -1) != 1:
            raise UserError(
                f"request {request.id}: {self._base!r} takes no picture: expected one placeholder "
                f"{vocabulary.image_token_id} in its prompt, came {list(ids)}"
            )
        url = await self._pictures.url(request.image)
        return vocabulary, Prompt(ids, ids.index(vocabulary.image_token_id), url)

    async def _load_vocabulary(self, root: str) -> Vocabulary:
        """The tokenizer, once a server has said what it loaded the base from."""
        async with self._loading:
            if self._vocabulary is None:
                path = self._base if os.path.isdir(self._base) else root
                loaded = await asyncio.to_thread(Vocabulary.load, self._tokenizer or path)
                # A question is asked about several pictures, a topic in several episodes.
                self._ids = lru_cache(_PROMPTS_KEPT)(loaded.encoder.unexpanded)
                self._vocabulary = loaded
        return self._vocabulary

    async def _switch(self, roles: tuple[Role, ...], name: str, path: str) -> None:
        try:
            await together([server.load(name, path) for server in self._servers])
        except BaseException:
            self._chore(self._unload(name))
            raise
        old = {self._adapters[role] for role in roles if role in self._adapters}
        self._paths[name] = path
        self._adapters.update(dict.fromkeys(roles, name))
        self._retired.update(old & self._paths.keys())
        self._unload_unused()

    async def _take_over(self, adapters: Mapping[Role, tuple[str, str]]) -> None:
        self._adapters.update({role: name for role, (name, _) in adapters.items()})
        known = {**self._paths, **dict(adapters.values())}
        self._paths = {name: known[name] for name in self._adapters.values() if name in known}
        for server in self._servers:
            server.adapters.clear()
            server.adapters.update(self._paths)

    def _unload_unused(self) -> None:
        for name in list(self._retired):
            if not self._users[name] and name not in self._adapters.values():
                self._retired.discard(name)
                self._chore(self._unload(name))

    async def _unload(self, name: str) -> None:
        try:
            await together([server.unload(name) for server in self._servers])
        except PolicyError as error:
            log.warning("%s: adapter %r could not be unloaded: %s", self.name, name, error)

    def _chore(self, work: Coroutine[None, None, None]) -> None:
        """Run something that nobody waits for."""
        task = asyncio.ensure_future(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _parts(argument: str) -> tuple[str, list[str]]:
    """Base and URLs of ``BASE@URL,URL``."""
    base, _, rest = argument.partition("@http")
    urls = [url.strip().removesuffix("/").removesuffix("/v1") for url in f"http{rest}".split(",")]
    if not base or not rest or not all(urls):
        raise UserError(
            "expected 'vllm:BASE@URL[,URL…]' such as vllm:nano@http://127.0.0.1:8000, "
            f"came {argument!r}"
        )
    if len(set(urls)) < len(urls):
        raise UserError(f"each server once, came {argument!r}")
    return base, urls
