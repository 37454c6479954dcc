"""The settings of a run: a preset, overrides, and the resolved config in the run directory."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from agents.vllm_settings import VllmSettings
from mmzero_env.episode import EpisodeConfig
from mmzero_env.errors import UserError, unknown
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import CodeForm, Role, Sampling
from mmzero_env.rendering.backends import backend_target
from mmzero_env.rewards import RewardDesign, get_design
from mmzero_env.rewards.design_files import SUFFIX, read_settings

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class StageConfig:
    """Training of one role in one iteration.

    Attributes:
        steps: GRPO steps; 0 leaves the role untrained.
        prompts_per_step: Groups collected a step.
        group_size: Completions a group.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_updates: Updates over which the learning rate rises.
        beta: Weight of the KL term to the model at the start of the stage.
        micro_batch: Rows in one forward and backward pass.
        updates_per_step: Optimizer updates that share one collection.
        temperature: Sampling temperature of the trained role.
        max_tokens: Longest completion of the role, in tokens.
        codes: Codes a proposal when this role is trained (the Coder's is ``group_size``).
        answers: Answers to each question about each picture. In the Solver's stage:
            answers that vote on the label.
        pool: Proposals that a pool of training prompts is filtered from (not the Proposer's).
        max_epochs: The stage ends early when every prompt of its pool has been seen so
            often; labels are fixed for a stage, and a few prompts repeated for long teach
            their errors. 0 sets no limit, as in the reference.
    """

    steps: int = 20
    prompts_per_step: int = 8
    group_size: int = 4
    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    warmup_updates: int = 0
    beta: float = 0.01
    micro_batch: int = 64
    updates_per_step: int = 1
    temperature: float = 1.0
    max_tokens: int = 4096
    codes: int = 4
    answers: int = 5
    pool: int = 1000
    max_epochs: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        for name in ("prompts_per_step", "group_size", "codes", "answers", "pool", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("steps", "max_epochs"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")


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
        for name in ("iterations", "image_size", "threads", "render_workers"):
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


_TABLES: Mapping[str, type[StageConfig | FilterConfig | ProbeConfig | ServeConfig]] = {
    "proposer": StageConfig,
    "coder": StageConfig,
    "solver": StageConfig,
    "filters": FilterConfig,
    "probe": ProbeConfig,
    "serve": ServeConfig,
}


_REWARD = "reward."


def presets() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load(preset: str, overrides: Mapping[str, str]) -> RunConfig:
    """A preset with changes.

    Args:
        preset: One of :func:`presets`.
        overrides: Values as text by key; a key inside a table is ``"solver.steps"``, a
            setting of the reward ``"reward.solvability_cap"`` or
            ``"reward.coder.render"``.

    Raises:
        UserError: If the preset, a key, or the type of a value is wrong.
    """
    if preset not in presets():
        raise unknown("preset", preset, presets())
    values = _flat(tomllib.loads((PRESETS / f"{preset}.toml").read_text(encoding="utf-8")))
    return _build({"out": f"runs/{preset}", **values, **overrides, "preset": preset})


def save(config: RunConfig, folder: Path) -> None:
    """Write ``config.json`` into a run directory."""
    text = json.dumps(asdict(config), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def read(folder: Path) -> RunConfig:
    """The config of an existing run.

    Raises:
        UserError: If the file is damaged or holds keys of another version.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a JSON object was expected, got {type(values).__name__}")
        flat = _flat(values)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: expected the JSON object of `mmzero evolve` ({error})."
        ) from error
    try:
        return _build({**flat, "out": str(folder)})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": v for inner, v in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _build(flat: Mapping[str, Any]) -> RunConfig:
    types = key_types()
    parts: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
    top: dict[str, Any] = {}
    reward: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith(_REWARD):
            reward[key.removeprefix(_REWARD)] = _literal(value)
            continue
        if key not in types:
            raise unknown("setting", key, (*types, f"{_REWARD}SETTING"))
        table, _, name = key.rpartition(".")
        (parts[table] if table else top)[name] = _typed(key, value, types[key])
    for table, cls in _TABLES.items():
        try:
            top[table] = cls(**parts[table])
        except UserError as error:
            raise UserError(f"{table}.{error}") from error
    if str(top.get("reward_design", "")).endswith(SUFFIX):
        # The run must not change with the file, so its content goes into the config.
        path = top["reward_design"]
        get_design(path)
        found = read_settings(Path(path))
        top["reward_design"], reward = found.base, {**found.settings, **reward}
    return RunConfig(**top, reward=reward)


def key_types() -> dict[str, type]:
    """Every setting with its type, keys of tables with a dot; without those of the reward."""
    types: dict[str, type] = {}
    for name, hint in get_type_hints(RunConfig).items():
        if name == "reward":
            continue
        if name in _TABLES:
            inner = get_type_hints(_TABLES[name])
            types |= {f"{name}.{f.name}": inner[f.name] for f in fields(_TABLES[name])}
        else:
            types[name] = hint
    return types


def _literal(value: Any) -> Any:
    """A setting of the reward as a TOML value: a number, true or false, else the text."""
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _typed(key: str, value: Any, kind: type) -> Any:
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(each, str) for each in parts):
            raise UserError(f"{key} expects names with commas between, got {value!r}")
        return tuple(each.strip() for each in parts)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            pass
    raise UserError(f"{key} expects a value of type {kind.__name__}, got {value!r}")
