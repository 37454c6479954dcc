"""The settings of a run, checked: everything that determines it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.vllm_settings import VllmSettings
from mmzero_env.episode import EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import CodeForm, Role, Sampling
from mmzero_env.rendering.backends import backend_target
from mmzero_env.rewards import RewardDesign, get_design
from trainers.stage_config import StageConfig


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
        servers: Independent servers, each with the whole model.
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
        policy: Who samples: ``"local"``, the weights that are trained; ``"vllm"``, servers that
            the run starts and stops; ``"vllm:BASE@URL"``, servers that run already; or
            ``"vllm-engine"``, vLLM in this process. All but the first need ``lora_rank``.
        canary_bound: Largest mean drift between trainer and engine, in nats a token; 0 derives
            it, see :mod:`trainers.canary`.
        save_every: Steps between two states that a killed run can go on from. The steps after
            the last one are done again and, with ``policy="local"``, come out the same.
        render_workers: Processes that render.
        render_backend: What draws SVG, see :data:`mmzero_env.rendering.BACKENDS`.
        code_forms: What the Coder may write: ``"svg"``, ``"python"`` or both. As text with
            commas between.
        proposer: Stage of the Proposer.
        coder: Stage of the Coder.
        solver: Stage of the Solver.
        filters: Which prompts the stages learn from.
        probe: How the truth is measured.
        serve: The vLLM servers of ``mmzero serve``.
    """

    preset: str
    out: str
    seed: int = 0
    iterations: int = 3
    model: str = "nano"
    prompts: str = "mm_zero"
    reward_design: str = "mm_zero"
    reward: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 448
    threads: int = 2
    lora_rank: int = 0
    lora_alpha: int = 0
    policy: str = "local"
    canary_bound: float = 0.0
    save_every: int = 1
    render_workers: int = 1
    render_backend: str = "cairosvg"
    code_forms: tuple[CodeForm, ...] = ("svg",)
    proposer: StageConfig = field(default_factory=StageConfig)
    coder: StageConfig = field(default_factory=StageConfig)
    solver: StageConfig = field(default_factory=StageConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)

    def __post_init__(self) -> None:
        """Refuse names and values that cannot be, before anything is loaded."""
        get_prompts(self.prompts)
        self.design()
        backend_target(self.render_backend)
        self.episode(codes=1, answers=1)
        for name in ("lora_rank", "lora_alpha", "canary_bound"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.policy != "local" and not self.lora_rank:
            raise UserError(
                f"policy={self.policy} plays the roles as LoRA adapters on one base; say how large "
                "they are: --set lora_rank=16"
            )
        for name in ("iterations", "image_size", "threads", "save_every", "render_workers"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")

    def design(self) -> RewardDesign:
        """The reward design, resolved."""
        return get_design(self.reward_design, **self.reward)

    def stage(self, role: Role) -> StageConfig:
        """The stage settings of a role."""
        return {"proposer": self.proposer, "coder": self.coder, "solver": self.solver}[role]

    def sampling(self, role: Role) -> Sampling:
        """How a role samples, whether it is trained or frozen."""
        stage = self.stage(role)
        return Sampling(temperature=stage.temperature, max_tokens=stage.max_tokens)

    def episode(self, *, codes: int, answers: int) -> EpisodeConfig:
        """The shape of episodes with so many codes and answers."""
        return EpisodeConfig(
            codes=codes,
            answers=answers,
            prompts=self.prompts,
            caption_answers=self.design().caption_answers(answers),
            sampling={role: self.sampling(role) for role in ("proposer", "coder", "solver")},
            code_forms=self.code_forms,
        )
