"""Warnings before the reward turns down: rows of metrics in, warnings out.

The rule. In every stage each signal of :data:`trainers.signals.SIGNALS` is looked at
after every step, over the last ``monitor.window`` values that the stage has (at least
``monitor.window_least``). It warns if Mann's one-sided test finds a trend in the bad
direction with p <= ``monitor.alpha``, the Theil-Sen line changes by at least what the
signal names, and, where it names others, one of these falls in the same window with
p <= :data:`BESIDE_ALPHA`. A KL above ``monitor.kl_limit`` warns at once. Each signal warns once a
stage. The warnings are a function of the rows: who reads the rows again gets them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.forecast import line, p_value
from trainers.monitor_config import MonitorConfig
from trainers.signals import SIGNALS, Signal

BESIDE_ALPHA = 0.1
"""Significance of an accompanying fall: a usual level, for the signal itself is held to
``alpha``."""

Row = Mapping[str, Any]
"""One line of ``metrics.jsonl``; a metric that a step did not define is None or missing."""


@dataclass(frozen=True)
class Warn:
    """One warning.

    Attributes:
        iteration: Iteration in which it fired.
        stage: Stage in which it fired.
        step: Step after which it fired.
        quantity: The metric.
        start: Fitted value at the beginning of the window.
        end: Fitted value at its end.
        steps: Values in the window; 1 for a limit that was crossed.
        p: One-sided p-value of the trend; None for a limit.
        text: The same in a sentence, with what usually helps.
    """

    iteration: int
    stage: str
    step: int
    quantity: str
    start: float
    end: float
    steps: int
    p: float | None
    text: str


class Watch:
    """Looks at the rows of a run one after the other.

    Args:
        config: When to warn.
    """

    def __init__(self, config: MonitorConfig) -> None:
        """See the class."""
        self._config = config
        self._stage: tuple[int, str] | None = None
        self._values: dict[str, list[float]] = defaultdict(list)
        self._said: set[str] = set()

    def add(self, row: Row) -> list[Warn]:
        """Take in the next row.

        Returns:
            What is new to warn of.
        """
        if not self._config.warn:
            return []
        stage = (int(row["iteration"]), str(row["stage"]))
        if stage != self._stage:
            # Another role, or new prompts: values of two stages make no series.
            self._stage, self._values, self._said = stage, defaultdict(list), set()
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._values[name].append(float(value))
        found = [self._limit(row), *(self._signal(signal, row) for signal in SIGNALS)]
        return [warning for warning in found if warning is not None]

    def _limit(self, row: Row) -> Warn | None:
        kl, limit = row.get("kl"), self._config.kl_limit
        if not limit or kl is None or kl <= limit or "kl limit" in self._said:
            return None
        self._said.add("kl limit")
        what = (
            f"kl is {kl:.3g}, above the limit of {limit:.3g}. What usually helps: the policy has "
            "left the model that its prompts and labels came from: lower the learning rate or "
            "raise beta"
        )
        return self._warn(row, "kl", (limit, kl), 1, None, what)

    def _signal(self, signal: Signal, row: Row) -> Warn | None:
        name = f"{signal.quantity}{signal.direction:+d}"
        # A metric that this row does not carry has no news.
        if (
            name in self._said
            or row["stage"] not in signal.stages
            or row.get(signal.quantity) is None
        ):
            return None
        values = self._window(signal.quantity)
        if values is None:
            return None
        start, end = line(values)
        least = signal.least * (abs(start) if signal.relative else 1.0)
        if (end - start) * signal.direction < least:
            return None
        judged = _increments(values) if signal.increments else values
        p = p_value(judged, signal.direction)
        beside = next((other for other in signal.beside if self._falls(other)), None)
        if p > self._config.alpha or (signal.beside and beside is None):
            return None
        self._said.add(name)
        moves = "rises" if signal.direction > 0 else "falls"
        what = (
            f"{signal.quantity} {moves}{' ever faster' if signal.increments else ''} from "
            f"{start:.3g} to {end:.3g} over {len(values)} values (p = {p:.2g})"
            f"{f' while {beside} falls' if beside else ''}. What usually helps: {signal.helps}"
        )
        return self._warn(row, signal.quantity, (start, end), len(values), p, what)

    def _falls(self, quantity: str) -> bool:
        values = self._window(quantity)
        return values is not None and p_value(values, -1) <= BESIDE_ALPHA

    def _window(self, quantity: str) -> Sequence[float] | None:
        values = self._values[quantity][-self._config.window :]
        return values if len(values) >= self._config.window_least else None

    def _warn(
        self,
        row: Row,
        quantity: str,
        ends: tuple[float, float],
        steps: int,
        p: float | None,
        what: str,
    ) -> Warn:
        where = (int(row["iteration"]), str(row["stage"]), int(row["step"]))
        text = f"warning: iteration {where[0]}, {where[1]}, step {where[2]}: {what}."
        return Warn(*where, quantity, *ends, steps, p, text)


def _increments(values: Sequence[float]) -> list[float]:
    return [after - before for before, after in zip(values, values[1:], strict=False)]


def warnings_of(rows: Iterable[Row], config: MonitorConfig) -> list[Warn]:
    """Everything that a :class:`Watch` says to these rows, in their order."""
    watch = Watch(config)
    return [warning for row in rows for warning in watch.add(row)]
