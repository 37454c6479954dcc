"""The settings of the monitors: what is watched, when to warn, when to go back."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.errors import UserError, unknown

ROLLBACKS = ("off", "stop", "retry")
WINDOW = 4
"""Fewest values that can show a trend: three in perfect order have a p-value of 1/6."""


@dataclass(frozen=True)
class MonitorConfig:
    """What is watched of a run.

    Attributes:
        blind_items: Hard questions a measurement that the Solver is asked without the
            picture; 0 asks none.
        blind_every: Steps between two such measurements of a stage.
        warn: Whether to warn.
        window: Most values of a metric that a trend is looked for in.
        window_least: Fewest.
        alpha: Largest one-sided p-value of a trend that is worth a warning.
        kl_limit: KL above which there is a warning whatever its trend, in nats a token; 0 is
            no limit.
        rollback: What follows when an iteration has collapsed: ``"off"``, nothing; ``"stop"``,
            the run ends; ``"retry"``, the next iteration starts from the best one's weights.
        collapse_drop: Share that one part of an iteration's health may lose against the best
            iteration before it, see :mod:`trainers.rollback`.
    """

    blind_items: int = 8
    blind_every: int = 4
    warn: bool = True
    window: int = 12
    window_least: int = 6
    alpha: float = 0.005
    kl_limit: float = 0.2
    rollback: str = "off"
    collapse_drop: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        if self.blind_items < 0:
            raise UserError(f"blind_items must not be negative, got {self.blind_items}")
        if self.blind_every < 1:
            raise UserError(f"blind_every must be at least 1, got {self.blind_every}")
        if not WINDOW <= self.window_least <= self.window:
            raise UserError(
                f"window_least must be from {WINDOW} to window={self.window}, "
                f"got {self.window_least}"
            )
        for name in ("alpha", "collapse_drop"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.kl_limit < 0:
            raise UserError(f"kl_limit must not be negative, got {self.kl_limit}")
        if self.rollback not in ROLLBACKS:
            raise unknown("rollback", self.rollback, ROLLBACKS)
