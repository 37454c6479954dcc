"""A vLLM engine in this process: the same policy as :mod:`agents.vllm` without a server.

    policy = agents.make("vllm-engine:nano")
    policy.load_adapter("solver", "solver-1", "runs/…/solver/1")
    responses = policy.generate(requests)

For one GPU or the CPU. Several GPUs, or a trainer that is itself distributed, want servers: the
engine sets up a ``torch.distributed`` group of its own. One engine a process at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agents.policy import PolicyError, answer_all, check_request, roles_of
from agents.registry import missing_extra
from agents.vllm_installation import Installation
from agents.vllm_settings import VllmSettings, find_model
from mmzero_env.errors import UserError
from mmzero_env.protocol import Completion, Request, Response, Role

try:
    from agents.vllm_core import Ask, VllmCore
    from agents.vllm_format import Prompt, sampling_params, score_params
    from agents.vocabulary import Vocabulary
except ModuleNotFoundError as error:
    raise missing_extra(error, "vllm") from error


class VllmEngine:
    """Plays the roles with one base model, each role with its own LoRA adapter or none.

    Attributes:
        name: For logs and records.
        max_open: Most requests that should be open at a time.
    """

    def __init__(
        self,
        argument: str,
        *,
        max_open: int = 256,
        name: str | None = None,
        training: bool = True,
        max_model_len: int = 0,
        max_loras: int = 4,
        max_lora_rank: int = 16,
        gpu_memory: float = 0.4,
        kv_cache_gb: float = 0.0,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        """See the class.

        Args:
            argument: Base model: ``"nano"``, a folder or a hub id.
            max_open: See the attribute.
            name: Defaults to ``vllm-engine:`` and the argument.
            training: Refuse sampling that would bias GRPO's ratios (``top_p`` below 1,
                ``top_k``).
            max_model_len: See :class:`agents.vllm_settings.VllmSettings`, as all below.
            max_loras: Adapters that can be active at once.
            max_lora_rank: Largest rank of an adapter.
            gpu_memory: Share of the GPU's memory; what is left is the trainer's.
            kv_cache_gb: Key-value cache in GiB.
            dtype: Of weights and activations.
            device: CPU or GPU.

        Raises:
            UserError: If the model or an option cannot be, or vLLM is not installed.
            PolicyError: If the engine does not start.
        """
        if max_open < 1:
            raise UserError(f"max_open must be at least 1, came {max_open}")
        settings = VllmSettings(
            max_model_len=max_model_len,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            gpu_memory=gpu_memory,
            kv_cache_gb=kv_cache_gb,
            dtype=dtype,
            device=device,
        )
        path, _ = find_model(argument)
        cpu = Installation.of(device=device).cpu
        self.name, self.max_open = name or f"vllm-engine:{argument}", max_open
        self._training, self._max_loras = training, max_loras
        self._vocabulary = Vocabulary.load(path)
        self._adapters: dict[Role, str] = {}
        self._used: set[str] = set()
        # A request must not slip in between a switch and the end of the old adapter.
        self._switching = threading.Lock()
        self._core = VllmCore(self.name, path, settings, cpu=cpu)

    @property
    def adapters(self) -> Mapping[Role, str]:
        """Name of each role's adapter; a role that is absent plays with the base model."""
        return MappingProxyType(dict(self._adapters))

    def submit(self, request: Request) -> Future[Response]:
        """Hand a request to the engine; see :meth:`agents.policy.StreamingPolicy.submit`.

        Raises:
            UserError: If this policy cannot sample as the request asks.
            PolicyError: After :meth:`close`, or when the engine has failed.
        """
        check_request(request)
        sampling = request.sampling
        if self._training and (sampling.top_p < 1 or sampling.top_k > 0):
            raise UserError(
                f"request {request.id}: top_p {sampling.top_p} and top_k {sampling.top_k} truncate "
                "the distribution, which biases the importance ratios of GRPO; sample with top_p 1 "
                "and top_k 0, or make the policy with training=False"
            )
        prompt = self._prompt(request)
        params = sampling_params(
            sampling,
            n=request.n,
            seed=request.seed,
            stop_ids=self._vocabulary.stop_ids,
            banned_ids=self._vocabulary.banned_ids,
        )
        with self._switching:
            adapter = self._adapters.get(request.role, "")
            ask = Ask(request.id, prompt.token_ids, request.image, params, adapter)
            return self._core.submit(ask, lambda output: self._response(request, prompt, output))

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; see :meth:`agents.policy.Policy.generate`."""
        return answer_all(self.submit, requests)

    def load_adapter(self, role: Role | tuple[Role, ...], name: str, path: str) -> None:
        """Switch a role to a new version of its adapter.

        The old version is let go of once no open request uses it.

        Args:
            role: Who plays with it from now on, one or several.
            name: New with each version.
            path: Folder of the adapter; new with each version, since vLLM's cache of prefixes
                knows an adapter by name and path.

        Raises:
            UserError: If the role is unknown, name or path were used before, the folder holds
                no adapter, or the engine was made without room for adapters.
            PolicyError: If the engine does not take it; the role is then not switched.
        """
        roles = roles_of(role)
        if not self._max_loras:
            raise UserError(f"{self.name} was made with max_loras=0, without room for adapters")
        folder = Path(path).absolute()
        if not (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{folder} holds no adapter_config.json; expected the folder of a LoRA adapter"
            )
        if {name, str(folder)} & self._used:
            raise UserError(
                f"adapter {name!r} at {folder}: each version needs a new name and a new path, "
                "since vLLM keeps what it computed with the old one"
            )
        self._core.load(name, str(folder))
        self._used |= {name, str(folder)}
        with self._switching:
            old = {self._adapters[each] for each in roles if each in self._adapters}
            self._adapters.update(dict.fromkeys(roles, name))
            for each in old.difference(self._adapters.values()):
                self._core.retire(each)

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Log-probabilities that the engine gives to fixed tokens after a prompt.

        Args:
            request: Its role, prompt and image are read.
            completion_ids: At least one token.

        Returns:
            The prompt's ids, picture written out, and the natural-log probability of each
            completion token at temperature 1, no token being banned.

        Raises:
            UserError: If there are no tokens.
            PolicyError: If the engine failed.
        """
        fixed = tuple(completion_ids)
        if not fixed:
            raise UserError("score needs at least one completion token, came none")
        prompt = self._prompt(request)
        whole = Prompt(prompt.token_ids + fixed, prompt.picture)

        def scores(output: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
            ids = self._read_prompt(request, whole, output)
            values = _logprobs(fixed, output.prompt_logprobs[-len(fixed) :])
            return ids[: -len(fixed)], values

        with self._switching:
            adapter = self._adapters.get(request.role, "")
            ask = Ask(request.id, whole.token_ids, request.image, score_params(), adapter)
            future = self._core.submit(ask, scores)
        return future.result()

    def close(self) -> None:
        """Give up what is open and let go of the engine and its memory. Safe to repeat."""
        self._core.close()

    def _prompt(self, request: Request) -> Prompt:
        with_image = request.image is not None
        ids = self._vocabulary.encoder.unexpanded(request.prompt, with_image=with_image)
        placeholder = self._vocabulary.image_token_id
        if not with_image:
            return Prompt(ids)
        if placeholder is None or ids.count(placeholder) != 1:
            raise UserError(
                f"request {request.id}: {self.name} takes no picture: expected one placeholder "
                f"{placeholder} in its prompt, came {list(ids)}"
            )
        return Prompt(ids, ids.index(placeholder))

    def _read_prompt(self, request: Request, prompt: Prompt, output: Any) -> tuple[int, ...]:
        ids = tuple(output.prompt_token_ids)
        if not prompt.expanded(ids):
            raise PolicyError(
                f"request {request.id!r}: {self.name} read {list(ids)}, expected "
                f"{list(prompt.token_ids)} with the picture written out"
            )
        return ids

    def _response(self, request: Request, prompt: Prompt, output: Any) -> Response:
        completions = tuple(
            self._completion(request, done)
            for done in sorted(output.outputs, key=lambda done: done.index)
        )
        if len(completions) != request.n:
            raise PolicyError(
                f"request {request.id!r}: {self.name} gave {len(completions)} completions, "
                f"expected {request.n}"
            )
        return Response(request.id, completions, self._read_prompt(request, prompt, output))

    def _completion(self, request: Request, done: Any) -> Completion:
        ids = tuple(done.token_ids)
        if done.finish_reason not in ("stop", "length") or not ids:
            raise PolicyError(
                f"request {request.id!r}: {self.name} ended a completion of {len(ids)} tokens with "
                f"reason {done.finish_reason!r}, expected 'stop' or 'length'"
            )
        text = self._vocabulary.text(ids)
        return Completion(text, ids, _logprobs(ids, done.logprobs), done.finish_reason)


def _logprobs(ids: Sequence[int], table: Sequence[Mapping[int, Any]]) -> tuple[float, ...]:
    return tuple(float(at[i].logprob) for i, at in zip(ids, table, strict=True))
