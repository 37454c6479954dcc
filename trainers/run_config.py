"""The settings of a run, checked: everything that determines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from agents.vllm_settings import VllmSettings
from mmzero_env.episode import EpisodeConfig
from mmzero_env.errors import UserError, unknown
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import ROLES, CodeForm, Role, Sampling
from mmzero_env.rendering.backends import backend_target
from mmzero_env.rewards import RewardDesign, get_design
from trainers.grpo_settings import GRPOSettings, of_stage
from trainers.monitor_config import MonitorConfig
from trainers.reader import READERS, SOLVER
from trainers.stage_config import StageConfig
from trainers.trackers import check_trackers

VISION = ("auto", "trained", "frozen")
DTYPES = ("auto", "float32", "bfloat16")

PHASED, SIMULTANEOUS = MODES = ("phased", "simultaneous")
"""How an iteration trains the roles: one after the other, or all on the same episodes."""

AUTO = "auto"
FIXED, ONLINE = LABELS = ("fixed", "online")
"""When the Solver's silver labels are voted: at the start of its stage, or at every step."""


OWN_SETTINGS = (
    "steps",
    "prompts_per_step",
    "group_size",
    "codes",
    "answers",
    "pool",
    "max_epochs",
    "max_tokens",
)
"""Settings of a stage that roles with one set of weights need not share: they say what is
collected, not how it is learned from."""


@dataclass(frozen=True)
class FilterConfig:
    """Which prompts a stage learns from (official filters; both ends are inclusive).

    Attributes:
        render_low: Least share of codes that render, for the Coder's prompts.
        render_high: Largest share.
        easy_low: Least consistency of the easy vote, for the Solver's prompts.
        hard_low: Least consistency of the hard vote.
        hard_high: Largest consistency.
    """

    render_low: float = 0.25
    render_high: float = 0.75
    easy_low: float = 0.5
    hard_low: float = 0.25
    hard_high: float = 0.75


@dataclass(frozen=True)
class ProbeConfig:
    """How the truth is measured after every iteration.

    Attributes:
        items: Held-out pictures.
        samples: Completions an item where a metric averages samples.
        seed: Chooses the items.
    """

    items: int = 300
    samples: int = 8
    seed: int = 0


@dataclass(frozen=True)
class ServeConfig(VllmSettings):
    """The vLLM servers that ``mmzero serve`` starts, with the settings of their engines.

    Attributes:
        model: Base model: ``nano``, a folder or a hub id; empty is the model of the run.
        servers: Independent servers, each with the whole model; where each role is a model of
            its own (``lora_rank=0``), so many a role.
        port: Where the first one listens, the others behind it; 0 finds free ones.
        python: Interpreter of the environment that has vLLM; empty is this one.
    """

    model: str = ""
    servers: int = 1
    port: int = 0
    python: str = ""

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        super().__post_init__()
        if self.servers < 1:
            raise UserError(f"servers must be at least 1, got {self.servers}")
        if not 0 <= self.port <= 65535:
            raise UserError(f"port is a number from 0 to 65535, got {self.port}")


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run.

    Attributes:
        preset: Name of the preset it was made from.
        out: Run directory.
        seed: Seeds everything random.
        iterations: Times the three stages are run.
        mode: ``"phased"``: every iteration trains one role after the other, the other two
            frozen, as in the paper. ``"simultaneous"``: all three learn from the same episodes,
            see :mod:`trainers.joint_stage`.
        labels: When the silver labels that the Solver learns from are voted. ``"fixed"``: once,
            at the start of its stage, as in the published code. ``"online"``: at every step
            anew, by the current Solver (TTRL, arXiv 2504.16084). ``"auto"`` is the first for
            phased runs and the second, the only one there is, for simultaneous ones.
        caption_reader: Who answers what the Solver is asked without a picture: ``"solver"``, the
            Solver that is trained, or ``"base"``, ``model`` as it was, so that labels from the
            caption do not drift along with the Solver. Needs ``executor="local"``, and with
            vLLM servers adapters.
        model: Agent that all three roles start from, see :func:`agents.make`.
        prompts: Prompt set.
        reward_design: Reward design, by name. Where a run is made it may be a TOML file,
            which is resolved into its base and ``reward``.
        reward: What is different from that design, by setting:
            see :meth:`RewardDesign.with_overrides`.
        image_size: Side of the pictures, in pixels.
        threads: CPU threads of torch; a run replays bit by bit with the same number.
        lora_rank: Rank of one LoRA adapter a role over a shared base; 0 trains all weights of
            a model a role. A different, cheaper method than the paper's full fine-tuning.
        lora_alpha: Scale of the adapters; 0 is twice the rank.
        vision: Whether the vision tower is ``"trained"`` or ``"frozen"``; ``"auto"`` trains
            it with all weights and leaves it frozen under adapters.
        shared_weights: One set of weights for all roles, a model or an adapter, instead of
            one each.
        dtype: Precision of the weights: ``"float32"``, ``"bfloat16"`` (with ``lora_rank``: the
            base; adapters are float32), or ``"auto"``: float32 on a CPU and for full
            fine-tuning, else the checkpoint's own.
        device: Where the weights are: ``"cpu"``, ``"cuda"``, …, or ``"auto"``, the first GPU
            if there is one.
        gradient_checkpointing: Compute activations again in the backward pass instead of
            keeping them: less memory, more time, the same gradients.
        autocast_bf16: Train in bfloat16 arithmetic over float32 weights.
        policy: Who samples: ``"local"``, the weights that are trained; ``"vllm"``, servers that
            the run starts and stops; ``"vllm:BASE@URL"``, servers that run already; or
            ``"vllm-engine"``, vLLM in this process, which needs ``lora_rank``. With
            ``lora_rank=0`` every role has servers of its own: ``"vllm:BASE@URL|URL|URL"``.
        canary_bound: Largest mean drift between trainer and engine, in nats a token; 0 derives
            it, see :mod:`trainers.canary`.
        save_every: Steps between two states that a killed run can go on from. The steps after
            the last one are done again and, with ``policy="local"``, come out the same.
        executor: Where episodes are played and codes drawn: ``"local"``, this machine, or
            ``"ray"``, the machines of a Ray cluster, which needs a served ``policy``.
        ray_address: The cluster: empty starts one on this machine, ``"auto"`` or
            ``"HOST:PORT"`` joins one.
        render_workers: Processes that render; with Ray, of each of its workers.
        render_backend: What draws SVG, see :data:`mmzero_env.rendering.BACKENDS`.
        code_forms: What the Coder may write: ``"svg"``, ``"python"`` or both. As text with
            commas between.
        proposer: Stage of the Proposer.
        coder: Stage of the Coder.
        solver: Stage of the Solver.
        filters: Which prompts the stages learn from.
        probe: How the truth is measured.
        monitor: What is watched, see :mod:`trainers.monitors`.
        serve: The vLLM servers of ``mmzero serve``.
        trackers: Where metrics are shown beside TensorBoard, which is always written:
            ``"trackio"``, ``"wandb"``. As text with commas between.
        project: Name of the project that trackers put the run into.
    """

    preset: str
    out: str
    seed: int = 0
    iterations: int = 3
    mode: str = PHASED
    labels: str = AUTO
    caption_reader: str = SOLVER
    model: str = "nano"
    prompts: str = "mm_zero"
    reward_design: str = "mm_zero"
    reward: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 448
    threads: int = 2
    lora_rank: int = 0
    lora_alpha: int = 0
    vision: str = "auto"
    shared_weights: bool = False
    dtype: str = "auto"
    device: str = "auto"
    gradient_checkpointing: bool = False
    autocast_bf16: bool = False
    policy: str = "local"
    canary_bound: float = 0.0
    save_every: int = 1
    executor: str = "local"
    ray_address: str = ""
    render_workers: int = 1
    render_backend: str = "cairosvg"
    code_forms: tuple[CodeForm, ...] = ("svg",)
    proposer: StageConfig = field(default_factory=StageConfig)
    coder: StageConfig = field(default_factory=StageConfig)
    solver: StageConfig = field(default_factory=StageConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    trackers: tuple[str, ...] = ()
    project: str = "mm-zero"

    def __post_init__(self) -> None:
        """Refuse names and values that cannot be, before anything is loaded."""
        get_prompts(self.prompts)
        self.design()
        self._check_mode()
        self._check_executor()
        backend_target(self.render_backend)
        self.episode(codes=1, answers=1)
        check_trackers(self.trackers)
        for name in ("lora_rank", "lora_alpha", "canary_bound"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        self._check_policy()
        for name in ("iterations", "image_size", "threads", "save_every", "render_workers"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_weights()
        for role in ROLES:
            if self.stage(role).steps:
                try:
                    self.grpo(self.stage(role))
                except UserError as error:
                    raise UserError(f"{role}: {error}") from error

    def _check_weights(self) -> None:
        for kind, value, valid in (("vision", self.vision, VISION), ("dtype", self.dtype, DTYPES)):
            if value not in valid:
                raise unknown(f"value of {kind}", value, valid)
        if self.dtype == "bfloat16" and not self.lora_rank:
            raise UserError(
                "dtype=bfloat16 with all weights trained loses most updates: bfloat16 carries 8 "
                "bits, and a step of 1e-6 is less than the last of them. Set dtype=float32 and "
                "autocast_bf16=true, or train adapters with lora_rank"
            )
        # Whole models are trained in float32 and may be served in less.
        engines = ("vllm", "vllm-engine")
        if (
            self.policy in engines
            and not self.whole
            and self.dtype not in ("auto", self.serve.dtype)
        ):
            raise UserError(
                f"dtype={self.dtype} and serve.dtype={self.serve.dtype}: engine and trainer must "
                f"hold the weights in one precision; set serve.dtype={self.dtype}"
            )
        if self.vision == "trained" and self.lora_rank and self.policy != "local":
            raise UserError(
                f"policy={self.policy} does not serve adapters on the vision tower; set "
                "vision=frozen (or auto), or sample with policy=local"
            )

    def _check_mode(self) -> None:
        for kind, value, valid in (
            ("mode", self.mode, MODES),
            ("labels", self.labels, (AUTO, *LABELS)),
        ):
            if value not in valid:
                raise unknown(kind, value, valid)
        if self.mode == SIMULTANEOUS and self.labels == FIXED:
            raise UserError(
                "labels=fixed are voted before the Solver's stage, and mode=simultaneous has no "
                "such stage: there the answers of every step vote. Leave labels out, or set "
                "mode=phased"
            )
        if self.caption_reader not in READERS:
            raise unknown("caption_reader", self.caption_reader, READERS)
        if self.caption_reader != SOLVER:
            self._check_reader()
        if self.labels == ONLINE and self.design().label_source == "truth":
            raise UserError(
                "labels=online are voted anew at every step, and the truth does not change: leave "
                "labels out where reward.label_source=truth"
            )
        if self.mode == SIMULTANEOUS and self.shared_weights:
            self.joint([role for role in ROLES if self.stage(role).steps])

    def _check_reader(self) -> None:
        design = self.design()
        if not (design.needs_caption_answers or design.needs_blind_answers):
            raise UserError(
                f"caption_reader={self.caption_reader} has nothing to read: reward_design="
                f"{self.reward_design} asks nothing without a picture. Choose a design with labels "
                "from the caption, such as cycle_consistent, or leave caption_reader out"
            )
        if self.executor != "local":
            raise UserError(
                f"caption_reader={self.caption_reader} is asked by this process: it needs "
                f"executor=local, got {self.executor}"
            )
        if self.policy == "vllm-engine" or self.whole:
            raise UserError(
                f"caption_reader={self.caption_reader} needs somebody who still has the base model "
                f"while roles are trained, got policy={self.policy} with lora_rank="
                f"{self.lora_rank}: expected policy=local, or vLLM servers with lora_rank above 0"
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages of an iteration, in their order."""
        return (SIMULTANEOUS,) if self.mode == SIMULTANEOUS else ROLES

    def steps(self, stage: str) -> int:
        """Most steps of a stage.

        The episodes of a simultaneous stage are the Proposer's, and so is their number; where
        the Proposer stays untrained, the larger number of the other two.
        """
        tables = {role: self.stage(role).steps for role in ROLES}
        if stage in ROLES:
            return tables[stage]
        return tables["proposer"] or max(tables.values())

    @property
    def online_labels(self) -> bool:
        """Whether silver labels are voted at every step."""
        return self.labels == ONLINE or self.mode == SIMULTANEOUS

    def _check_executor(self) -> None:
        if self.executor not in ("local", "ray"):
            raise unknown("executor", self.executor, ("local", "ray"))
        if self.executor == "ray" and self.policy in ("local", "vllm-engine"):
            raise UserError(
                f"executor=ray plays on many machines, but policy={self.policy} samples in this "
                "process: serve the model (--set policy=vllm --set lora_rank=16, or "
                "policy=vllm:BASE@URL), or play here with executor=local"
            )
        if self.ray_address and self.executor != "ray":
            raise UserError(f"ray_address={self.ray_address} is for executor=ray only")

    def _check_policy(self) -> None:
        """Refuse a policy that cannot serve what is trained."""
        if self.policy != "local" and not self.lora_rank and not self.whole:
            raise UserError(
                f"policy={self.policy} plays the roles as LoRA adapters on one base; say how large "
                "they are: --set lora_rank=16, or take servers: --set policy=vllm"
            )
        if self.policy.startswith("vllm:") and self.policy.count("|") != self.models - 1:
            raise UserError(
                f"policy={self.policy}: expected vllm:BASE@URL[,URL…] for adapters (lora_rank "
                "above 0), and for a whole model a role (lora_rank=0) the servers of Proposer, "
                "Coder and Solver: vllm:BASE@URL[,…]|URL[,…]|URL[,…]"
            )

    @property
    def whole(self) -> bool:
        """Whether vLLM servers play with whole models instead of adapters on one."""
        return not self.lora_rank and self.policy.partition(":")[0] == "vllm"

    @property
    def models(self) -> int:
        """How many models the servers of a run play: one for all roles, or one a role."""
        return len(ROLES) if self.whole and not self.shared_weights else 1

    def design(self) -> RewardDesign:
        """The reward design, resolved."""
        return get_design(self.reward_design, **self.reward)

    def stage(self, role: Role) -> StageConfig:
        """The stage settings of a role."""
        return {"proposer": self.proposer, "coder": self.coder, "solver": self.solver}[role]

    @property
    def vision_trained(self) -> bool:
        """Whether the vision tower is trained, ``"auto"`` resolved."""
        return self.vision == "trained" or (self.vision == "auto" and not self.lora_rank)

    def joint(self, roles: Sequence[Role]) -> StageConfig:
        """The settings by which roles with one set of weights are trained together.

        A step takes as many groups and completions as the roles have together; the longest
        completion is that of the role with the longest ones.

        Raises:
            UserError: If the roles differ in how they learn.
        """
        tables = [self.stage(role) for role in roles]
        for item in fields(StageConfig):
            values = {role: getattr(t, item.name) for role, t in zip(roles, tables, strict=True)}
            if item.name not in OWN_SETTINGS and len(set(values.values())) > 1:
                found = ", ".join(f"{role}.{item.name}={value}" for role, value in values.items())
                raise UserError(
                    f"roles that share their weights are updated at once and need one {item.name}, "
                    f"got {found}. Set them equal, or set shared_weights=false"
                )
        groups = sum(table.prompts_per_step for table in tables)
        rows = sum(table.prompts_per_step * table.group_size for table in tables)
        return replace(
            tables[0],
            prompts_per_step=groups,
            group_size=-(-rows // groups),
            max_tokens=max(table.max_tokens for table in tables),
        )

    def grpo(self, stage: StageConfig) -> GRPOSettings:
        """A stage as the trainer takes it.

        Raises:
            UserError: If a value cannot be.
        """
        return of_stage(
            stage,
            engine=self.policy != "local",
            gradient_checkpointing=self.gradient_checkpointing,
            autocast_bf16=self.autocast_bf16,
        )

    def sampling(self, role: Role) -> Sampling:
        """How a role samples, whether it is trained or frozen."""
        stage = self.stage(role)
        return Sampling(stage.temperature, top_p=stage.top_p, max_tokens=stage.max_tokens)

    def episode(self, *, codes: int, answers: int) -> EpisodeConfig:
        """The shape of episodes with so many codes and answers."""
        design = self.design()
        return EpisodeConfig(
            codes=codes,
            answers=answers,
            prompts=self.prompts,
            caption_answers=design.caption_answers(answers),
            blind_answers=design.blind_answers(answers),
            sampling={role: self.sampling(role) for role in ("proposer", "coder", "solver")},
            code_forms=self.code_forms,
        )
