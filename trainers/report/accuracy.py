"""The table that a run is judged by: true accuracy of each role, before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mmzero_env.protocol import ROLES
from trainers.report.run_data import Estimate, Probe


@dataclass(frozen=True)
class Change:
    """What became of a metric between the base and the last iteration.

    Attributes:
        delta: Last mean minus first mean.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of it.
    """

    delta: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``"up"`` or ``"down"`` when the interval excludes zero, else ``"same"``."""
        if self.low > 0:
            return "up"
        return "down" if self.high < 0 else "same"


@dataclass(frozen=True)
class AccuracyRow:
    """One metric of one role over the iterations."""

    role: str
    label: str
    metric: str
    estimates: tuple[Estimate, ...]
    change: Change | None


def change(probe: Probe, metric: str) -> Change | None:
    """What became of a metric between the first and the last iteration, if there are two.

    The probe asks the same items every time, so the interval is that of the
    paired difference where the probe kept it, and :func:`unpaired` otherwise.
    """
    estimates = probe.metrics[metric]
    if len(estimates) < 2:
        return None
    if metric in probe.change:
        paired = probe.change[metric][-1]
        return Change(paired.mean, paired.low, paired.high)
    return unpaired(estimates[0], estimates[-1])


def unpaired(before: Estimate, after: Estimate) -> Change:
    """Difference of two estimates with an interval built from theirs.

    The square-and-add interval (Newcombe 1998, "Interval estimation for the
    difference between independent proportions", method 10):
    ``low = d - sqrt((p1 - l1)^2 + (u0 - p0)^2)`` and
    ``high = d + sqrt((u1 - p1)^2 + (p0 - l0)^2)``. It treats the two as
    independent, which is cautious when they share their items.
    """
    delta = after.mean - before.mean
    return Change(
        delta,
        delta - math.hypot(after.mean - after.low, before.high - before.mean),
        delta + math.hypot(after.high - after.mean, before.mean - before.low),
    )


def rows(probe: Probe) -> list[AccuracyRow]:
    """The table's rows, roles in their playing order, metrics as the probe lists them."""
    table = []
    for name, estimates in probe.metrics.items():
        role, label = split_name(name)
        table.append(AccuracyRow(role, label, name, estimates, change(probe, name)))
    order = {role: place for place, role in enumerate(ROLES)}
    return sorted(table, key=lambda row: order.get(row.role, len(order)))


def split_name(metric: str) -> tuple[str, str]:
    """A metric's role and what it measures: ``"solver_easy_greedy"`` → Solver, easy greedy."""
    role, _, rest = metric.partition("_")
    if role in ROLES and rest:
        return role, rest.replace("_", " ")
    return "", metric.replace("_", " ")


def column_names(probe: Probe) -> list[str]:
    """A heading for each iteration."""
    return ["base" if i == 0 else f"iteration {i}" for i in probe.iterations]


def cell(estimate: Estimate) -> str:
    """An estimate as text: the mean and its interval."""
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def change_cell(difference: Change | None) -> str:
    """A change as text: signed, with an arrow when its interval excludes zero."""
    if difference is None:
        return ""
    mark = {"up": " ▲", "down": " ▼", "same": ""}[difference.verdict]
    return f"{difference.delta:+.3f}{mark}"


def _change_text(difference: Change | None) -> str:
    if difference is None:
        return ""
    mark = {"up": "▲", "down": "▼", "same": " "}[difference.verdict]
    return f"{difference.delta:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] {mark}"


def text_table(probe: Probe) -> Iterator[tuple[str, ...]]:
    """The table as rows of text, the heading first, for a terminal.

    With a single measurement there is neither a before nor a change to show.
    """
    several = len(probe.iterations) > 1
    columns = (*column_names(probe), "change") if several else ("score",)
    yield ("role", "metric", *columns, "items")
    for row in rows(probe):
        yield (
            row.role.capitalize(),
            row.label,
            *(cell(e) for e in row.estimates),
            *((_change_text(row.change),) if several else ()),
            str(row.estimates[-1].n),
        )
