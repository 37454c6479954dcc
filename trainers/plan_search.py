"""Finds the settings nearest to a preset that fit, by planning with others.

Nearest is what costs the run least: first settings that change only speed, then lengths and
the size of adapters, which change what is learned, and last more GPUs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agents.vllm_settings import LORA_RANKS
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from trainers.plan_layout import Hardware, engine_gpus
from trainers.run_config import RunConfig

_GPUS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Change:
    """Some settings that are different, and how much that costs.

    Attributes:
        settings: Values by the names that ``--set`` takes.
        apply: Makes the changed run.
        cost: Of the change; those of several changes add up.
    """

    settings: dict[str, str]
    apply: Callable[[RunConfig], RunConfig]
    cost: float


@dataclass(frozen=True)
class Suggestion:
    """A way to make a run fit.

    Attributes:
        settings: Values by the names that ``--set`` takes.
        gpus: GPUs that it needs.
        config: The run with these settings.
    """

    settings: dict[str, str]
    gpus: int
    config: RunConfig

    def text(self, hardware: Hardware) -> str:
        """As arguments of ``mmzero plan``."""
        words = [f"--set {name}={value}" for name, value in self.settings.items()]
        if self.gpus != hardware.gpus:
            words.append(f"--gpus {self.gpus}")
        return " ".join(words)


def nearest(
    config: RunConfig,
    hardware: Hardware,
    need: Callable[[RunConfig], int],
    fits: Callable[[RunConfig, Hardware], bool],
) -> Suggestion | None:
    """The cheapest change with which a run fits.

    Args:
        config: A run that does not fit.
        hardware: What there is.
        need: Tokens of the longest prompt and completion of a run.
        fits: Whether a run fits.

    Returns:
        Settings for the same GPUs if there are any, else with more GPUs; None if not even that
        helps.
    """
    for gpus in (hardware.gpus, *(n for n in _GPUS if n > hardware.gpus)):
        there = replace(hardware, gpus=gpus)
        for changes in _by_cost(config, need(config)):
            settings: dict[str, str] = {}
            changed = config
            try:
                for change in changes:
                    changed = change.apply(changed)
                    settings |= change.settings
            except UserError:
                continue
            if fits(changed, there):
                return Suggestion(settings, gpus, changed)
    return None


def _by_cost(config: RunConfig, need: int) -> Iterator[tuple[Change, ...]]:
    """Every combination of one change of each kind, cheapest first."""
    kinds = [
        _micro_batches(config),
        _checkpointing(config),
        _engine_shares(config),
        _model_lengths(config, need),
        _ranks(config),
    ]
    combined = [tuple(c for c in each if c is not None) for each in itertools.product(*kinds)]
    yield from sorted(combined, key=lambda changes: sum(change.cost for change in changes))


_Choices = list[Change | None]


def _micro_batches(config: RunConfig) -> _Choices:
    """Smaller micro-batches: a little slower."""
    largest = max(config.stage(role).micro_batch for role in ROLES)
    found: _Choices = [None]
    size, cost = 2 ** ((largest - 1).bit_length() - 1) if largest > 1 else 0, 1.0
    while size:
        found.append(_micro_batch(config, size, cost))
        size, cost = size // 2, cost + 0.3
    return found


def _micro_batch(config: RunConfig, size: int, cost: float) -> Change:
    roles = [role for role in ROLES if config.stage(role).micro_batch > size]

    def apply(run: RunConfig) -> RunConfig:
        return replace(run, **{r: replace(run.stage(r), micro_batch=size) for r in roles})

    return Change({f"{role}.micro_batch": str(size) for role in roles}, apply, cost)


def _checkpointing(config: RunConfig) -> _Choices:
    """Layers computed again: a third slower training."""
    if config.gradient_checkpointing:
        return [None]
    change = Change(
        {"gradient_checkpointing": "true"},
        lambda run: replace(run, gradient_checkpointing=True),
        2.0,
    )
    return [None, change]


def _engine_shares(config: RunConfig) -> _Choices:
    """Another share of the GPU for the engine: fewer or more rows at a time."""
    if not engine_gpus(config):
        return [None]
    found: _Choices = [None]
    for percent in range(10, 100, 5):
        if abs(config.serve.gpu_memory * 100 - percent) < 1:
            continue
        cost = 1.0 + abs(config.serve.gpu_memory * 100 - percent) / 20
        found.append(_serve({"gpu_memory": percent / 100}, cost))
    return found


def _model_lengths(config: RunConfig, need: int) -> _Choices:
    """An engine for rows as long as they can be, and no longer, or long enough for them."""
    length = -(-need // 256) * 256
    if not engine_gpus(config) or config.serve.max_model_len == length:
        return [None]
    return [None, _serve({"max_model_len": length}, 0.5)]


def _serve(values: dict[str, int | float], cost: float) -> Change:
    settings = {f"serve.{name}": f"{value:g}" for name, value in values.items()}
    return Change(settings, lambda run: replace(run, serve=replace(run.serve, **values)), cost)


def _ranks(config: RunConfig) -> _Choices:
    """Smaller adapters: they learn less."""
    found: _Choices = [None]
    smaller = [rank for rank in LORA_RANKS if 1 < rank < config.lora_rank]
    for steps, rank in enumerate(reversed(smaller), start=1):
        found.append(_rank(config, rank, 4.0 * steps))
    return found


def _rank(config: RunConfig, rank: int, cost: float) -> Change:
    # The engine's slots shrink with the adapters.
    slots = min(rank, config.serve.max_lora_rank)
    return Change(
        {"lora_rank": str(rank), "serve.max_lora_rank": str(slots)},
        lambda run: replace(run, lora_rank=rank, serve=replace(run.serve, max_lora_rank=slots)),
        cost,
    )
