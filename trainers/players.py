"""Who samples while a role is trained: the trained weights themselves, or an engine.

With ``policy = "local"`` every role samples from the weights that are trained. With an
engine (vLLM servers, or vLLM in this process) all roles are adapters on one base there, or
every role is a whole model with servers of its own. After every update the new weights are
written to a new path, loaded and checked by the canary before anything is sampled from them.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

import agents
from agents.policy import Policy, StreamingPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from trainers import checkpoints
from trainers.canary import COMPLETION, CanaryReading, Sampler, Scorer, SyncCanary
from trainers.learner import Learner
from trainers.learners import make_reader
from trainers.reader import BASE, SplitSolver, StreamingSplitSolver
from trainers.run_config import RunConfig
from trainers.serve import SERVE_LOGS, base_of, kept_alive, make_servers

LOCAL = "local"


class AdapterEngine(StreamingPolicy, Sampler, Protocol):
    """An engine that serves one adapter a role, or one for several."""

    def load_adapter(self, role: Role | tuple[Role, ...], name: str, path: str) -> None:
        """Serve an adapter for a role, or for several, from now on."""
        ...


class WholeEngine(StreamingPolicy, Sampler, Protocol):
    """An engine that serves one model a role, or one for several."""

    def load_weights(self, role: Role | tuple[Role, ...], path: str) -> None:
        """Serve a model folder's weights for a role, or for several, from now on."""
        ...


class Players:
    """Plays every role with the newest weights.

    Attributes:
        policies: Who answers the requests of each role.
        playing: The same in the episodes of training, where a reader of its own may answer what
            the Solver is asked without a picture.
        specs: What each of them is made from where something else plays, as for
            :func:`agents.make`; empty where the weights are in this process.
    """

    def __init__(self, learners: Mapping[Role, Learner], reader: Policy | None = None) -> None:
        """The trained weights play themselves.

        Args:
            learners: The roles as they are trained.
            reader: Answers what the Solver is asked without a picture; None leaves it to the
                Solver.
        """
        self.policies: Mapping[Role, Policy] = learners
        self.playing: Mapping[Role, Policy] = learners
        if reader is not None:
            self.playing = {**learners, "solver": SplitSolver(learners["solver"], reader)}
        self.specs: Mapping[Role, str] = {}

    def publish(self, role: Role) -> CanaryReading | None:
        """Make the players use a role's newest weights.

        Returns:
            What the canary saw; None where there is nothing to keep in step.

        Raises:
            EngineError: If the engine did not take them.
        """
        return None


class EnginePlayers(Players):
    """An engine plays all roles.

    Args:
        learners: The roles as they are trained, with adapters or as whole models.
        engine: Samples for all of them.
        folder: Where versions of the weights are written for the engine to load.
        bound: Largest drift that the canary allows; None derives it.
        shared: Whether the roles are one adapter or one model; it is then written, loaded and
            checked once for all.
        spec: What the engine was made from; empty if it is in this process.
        reader: Answers what the Solver is asked without a picture; None leaves it to the engine.
        dtype: Precision of the engine, a key of :data:`trainers.canary.FLOORS`; "auto" is that
            of the learners.
    """

    def __init__(
        self,
        learners: Mapping[Role, Any],
        engine: AdapterEngine | WholeEngine,
        folder: Path,
        *,
        bound: float | None = None,
        dtype: str = "auto",
        shared: bool = False,
        spec: str = "",
        reader: StreamingPolicy | None = None,
    ) -> None:
        """Serve every role's weights as they are now."""
        self.policies = self.playing = dict.fromkeys(ROLES, engine)
        if reader is not None:
            self.playing = {**self.policies, "solver": StreamingSplitSolver(engine, reader)}
        self.specs = dict.fromkeys(ROLES, spec) if spec else {}
        self._learners = learners
        self._engine: Any = engine
        self._folder = folder
        # A server may still hold the adapters of an earlier run, under their names.
        self._run = uuid.uuid4().hex[:8]
        # Which role stands for a role's weights: itself, or the first one for all.
        self._owner: dict[Role, Role] = {role: ROLES[0] if shared else role for role in ROLES}
        owners = tuple(dict.fromkeys(self._owner.values()))
        self._versions: dict[Role, int] = dict.fromkeys(owners, 0)
        self._canaries = {
            owner: _canary(owner, learners[owner], engine, bound, dtype) for owner in owners
        }
        for owner in owners:
            self.publish(owner)

    def publish(self, role: Role) -> CanaryReading:
        """Write, load and check a role's weights; the version before is removed."""
        owner = self._owner[role]
        version = self._versions[owner]
        name = self._name(owner, version)
        # The engine's prefix cache knows an adapter by name and path: both must be new.
        path = self._folder / name
        checkpoints.save(self._learners[owner], path)
        served = tuple(each for each in ROLES if self._owner[each] == owner)
        if hasattr(self._learners[owner], "save_adapter"):
            self._engine.load_adapter(served, name, str(path.absolute()))
        else:
            self._engine.load_weights(served, str(path.absolute()))
        reading = self._canaries[owner].check(name)
        shutil.rmtree(self._folder / self._name(owner, version - 1), ignore_errors=True)
        self._versions[owner] += 1
        return reading

    def _name(self, role: Role, version: int) -> str:
        return f"{role}-{self._run}-{version}"


def _canary(
    role: Role,
    learner: Any,
    engine: Sampler,
    bound: float | None,
    dtype: str,
    scorer: Scorer | None = None,
) -> SyncCanary:
    ids = learner.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]
    if dtype == "auto":
        dtype = str(learner.model.dtype).removeprefix("torch.")
    return SyncCanary(role, scorer or learner, engine, ids, dtype=dtype, bound=bound)


def _reader(
    spec: str, view: Any, folder: Path, stack: ExitStack, bound: float | None, dtype: str
) -> StreamingPolicy:
    """Another client of the engine's servers, whose Solver is the base.

    It plays through an adapter that changes nothing: without any, vLLM 0.31 on a CPU computes a
    request through whatever adapter lies in its last slot, which its torch kernels take index -1
    for (vllm/lora/ops/torch_ops/lora_ops.py).

    Raises:
        EngineError: If what is served is not the base.
    """
    from agents.adapters import BaseView, save_idle

    reader: Any = agents.make(spec)
    stack.callback(reader.close)
    name = f"reader-{uuid.uuid4().hex[:8]}"
    save_idle(view, folder / name)
    reader.load_adapter("solver", name, str((folder / name).absolute()))
    _canary("solver", view, reader, bound, dtype, BaseView(view.policy)).check(name)
    return reader


@contextmanager
def open_players(
    config: RunConfig, learners: Mapping[Role, Learner], note: Callable[[str], None]
) -> Generator[Players]:
    """The players of a run; what was started for them ends with the block.

    Args:
        config: Its ``policy`` decides.
        learners: The roles as they are trained.
        note: Takes sentences for the person who watches.

    Raises:
        UserError: If the policy cannot play with the weights of these learners.
        EngineError: If an engine does not start, or does not serve what was trained.
    """
    if config.policy == LOCAL:
        yield Players(learners, make_reader(config, learners))
        return
    with ExitStack() as stack:
        made, spec = _engine(config, stack, note)
        engine: Any = made
        if not hasattr(engine, "load_weights" if config.whole else "load_adapter"):
            raise UserError(
                f"policy={config.policy} cannot serve what is trained here: expected local, vllm, "
                "vllm:BASE@URL or vllm-engine"
            )
        stack.callback(engine.close)
        folder = stack.enter_context(_versions(config))
        bound = config.canary_bound or None
        dtype = config.serve.dtype
        shared = config.shared_weights
        reader = None
        if config.caption_reader == BASE:
            reader = _reader(spec, learners["solver"], folder, stack, bound, dtype)
        yield EnginePlayers(
            learners,
            engine,
            folder,
            bound=bound,
            shared=shared,
            spec=spec,
            dtype=dtype,
            reader=reader,
        )


@contextmanager
def _versions(config: RunConfig) -> Generator[Path]:
    """The folder for versions of the weights, gone with the block.

    Whole models may be too large for the folder of temporary files: they lie beside the run.
    What a run that was killed has left there goes when it is resumed.
    """
    if not config.whole:
        with tempfile.TemporaryDirectory(prefix="adapters-") as folder:
            yield Path(folder)
        return
    out = Path(config.out).absolute()
    folder = out.with_name(f".{out.name}-weights")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gpus(config: RunConfig, present: int) -> list[int]:
    """The GPUs for servers with whole models: the last ones, since training takes the first.

    Empty where that is left to :func:`trainers.serve.make_servers`.
    """
    needed = config.models * config.serve.servers * config.serve.tensor_parallel
    return list(range(present - needed, present)) if config.whole and present > needed else []


def _engine(config: RunConfig, stack: ExitStack, note: Callable[[str], None]) -> tuple[Policy, str]:
    """The engine that ``policy`` names, and its spec; servers that the run needs are started."""
    if config.policy == "vllm":
        from agents.vllm_process import agent_of

        gpus = _gpus(config, torch.cuda.device_count())
        servers = make_servers(config, SERVE_LOGS, note, gpus=gpus)
        stack.enter_context(kept_alive(servers, note))
        spec = agent_of(servers, config.models)
        return agents.make(spec), spec
    if config.policy == "vllm-engine":
        base = config.serve.model or base_of(config.model)
        names = ("max_model_len", "max_loras", "max_lora_rank", "kv_cache_gb", "dtype", "device")
        options = {name: getattr(config.serve, name) for name in names}
        return agents.make(f"vllm-engine:{base}", **options), ""
    return agents.make(config.policy), config.policy
