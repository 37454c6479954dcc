"""One chart of all three roles: does each get better while the others do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmzero_env.protocol import ROLES
from trainers.report.accuracy import AccuracyRow
from trainers.report.charts import MANY, Frame
from trainers.report.run_data import Estimate
from trainers.report.spacing import COLUMNS, evenly, label_every

WIDTH, HEIGHT = 640, 260

HEADLINES = {
    "proposer": ("valid", "own answer"),
    "coder": ("faithful", "render"),
    "solver": ("hard sampled", "hard majority", "easy sampled"),
}
"""Of each role what is shown of it, the first that was measured: what training moves, sampled as
training samples, and not what a lenient test is full marks in from the start."""


@dataclass(frozen=True)
class Line:
    """One line of the chart: a role and what was measured of it."""

    role: str
    label: str


@dataclass(frozen=True)
class Coevolution:
    """The chart with its legend; the drawing holds numbers and fixed words only."""

    svg: str
    lines: tuple[Line, ...]


def coevolution(iterations: Sequence[int], table: Sequence[AccuracyRow]) -> Coevolution | None:
    """Draw a true score of each role over the iterations, with 95 % intervals.

    Args:
        iterations: Iteration numbers; 0 is the base model.
        table: The rows of the table of true accuracy.

    Returns:
        None with fewer than two iterations: there is nothing to follow yet.
    """
    chosen = [row for role in ROLES if (row := _headline(role, table)) is not None]
    if len(iterations) < 2 or not chosen:
        return None
    shown = evenly(range(len(iterations)), MANY)
    every = [row.estimates[k] for row in chosen for k in shown]
    low, high = min(e.low for e in every), max(e.high for e in every)
    frame = Frame(len(shown), low, high, WIDTH, HEIGHT)
    for place in range(0, len(shown), label_every(len(shown), 10)):
        i = iterations[shown[place]]
        frame.below(place + 0.5, "base" if i == 0 else str(i))
    spoken = []
    for place, row in enumerate(chosen):
        # Side by side, so that intervals of one iteration do not hide each other.
        shift = 0.5 + (place - (len(chosen) - 1) / 2) * 0.06
        _draw(frame, row.role, [row.estimates[k] for k in shown], shift)
        few = evenly(list(zip(iterations, row.estimates, strict=True)), COLUMNS)
        values = ", ".join(f"{'base' if i == 0 else i} {e.mean:.3f}" for i, e in few)
        spoken.append(f"{row.role} {row.label}: {values}")
    lines = tuple(Line(row.role, row.label) for row in chosen)
    return Coevolution(frame.svg("together", f"by iteration. {'; '.join(spoken)}"), lines)


def _headline(role: str, table: Sequence[AccuracyRow]) -> AccuracyRow | None:
    own = {row.label: row for row in table if row.role == role}
    named = (own[label] for label in HEADLINES[role] if label in own)
    return next(named, next(iter(own.values()), None))


def _draw(frame: Frame, role: str, estimates: Sequence[Estimate], shift: float) -> None:
    at = [(frame.x(k + shift), e) for k, e in enumerate(estimates)]
    points = " ".join(f"{x:.1f},{frame.y(e.mean):.1f}" for x, e in at)
    marks = (
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" '
        f'y1="{frame.y(e.low):.1f}" y2="{frame.y(e.high):.1f}"/>' + marker(role, x, frame.y(e.mean))
        for x, e in at
    )
    frame.parts.append(
        f'<g class="role-{role}"><polyline class="line" points="{points}"/>{"".join(marks)}</g>'
    )


def marker(role: str, x: float, y: float) -> str:
    """A sign for a role that needs no colour: a square, a triangle, a dot."""
    if role == "proposer":
        return f'<rect class="dot" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if role == "coder":
        corners = ((x, y - 5.5), (x + 5.5, y + 4), (x - 5.5, y + 4))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        return f'<polygon class="dot" points="{points}"/>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
