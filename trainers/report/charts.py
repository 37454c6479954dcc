"""Small inline-SVG charts; colours come from the page's style sheet, so dark mode reaches them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from trainers.report.run_data import Estimate, MetricRow
from trainers.report.spacing import COLUMNS, evenly, label_every

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
MANY = 40
"""More iterations than this are drawn in less detail."""
MAX_POINTS = 400
"""About the most points of a chart, which is a few hundred pixels wide: neighbours are averaged,
but never those of two iterations."""


@dataclass(frozen=True)
class Chart:
    """A finished chart.

    Attributes:
        title: What it shows.
        svg: The drawing, one ``<svg>`` element without any model-written text.
        summary: The same in one sentence, for those who cannot see it.
    """

    title: str
    svg: str
    summary: str


def number(value: float) -> str:
    """A number in as few characters as its size allows (three significant digits)."""
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-")
    text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """Round numbers that lie in [low, high], about ``count`` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first = math.ceil(low / step - 1e-9)
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return [
        round(i * step, 12) + 0.0
        for i in range(first, first + 2 * count + 2)
        if i * step <= high + step * 1e-9
    ]


class Frame:
    """Maps data to pixels and draws what every chart has: grid, labels, limits."""

    def __init__(
        self, count: int, low: float, high: float, width: int = WIDTH, height: int = HEIGHT
    ) -> None:
        if low == high:
            pad = abs(low) * 0.1 or 1.0
            low, high = low - pad, high + pad
        pad = (high - low) * 0.06
        self.low, self.high = low - pad, high + pad
        self.count, self.width, self.height = count, width, height
        self.parts: list[str] = []
        for tick in ticks(self.low, self.high, max(3, height // 50)):
            y = self.y(tick)
            self.parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>'
            )

    def x(self, index: float) -> float:
        """Pixel of a position between 0 and ``count``."""
        return LEFT + (self.width - LEFT - RIGHT) * index / max(self.count, 1)

    def y(self, value: float) -> float:
        """Pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * share

    def below(self, index: float, text: str) -> None:
        """A label under the horizontal axis."""
        y = self.height - 8
        self.parts.append(
            f'<text x="{self.x(index):.1f}" y="{y}" text-anchor="middle">{text}</text>'
        )

    def svg(self, css: str, label: str) -> str:
        """The drawing with its accessible name."""
        return (
            f'<svg class="chart {css}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(label)}">{"".join(self.parts)}</svg>'
        )


def _thin(values: Sequence[float], size: int) -> list[float]:
    """Every ``size`` neighbours averaged."""
    return [
        sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)
    ]


def by_step(rows: Sequence[MetricRow], stage: str, metric: str) -> Chart | None:
    """One metric over the steps of a stage: every step thin, the mean of an iteration thick.

    Iterations stand side by side, each as wide as its number of steps. Of more than
    :data:`MANY` iterations only the means are drawn, as a line.

    Returns:
        None when no row of the stage carries the metric.
    """
    iterations: dict[int, list[float]] = {}
    for row in rows:
        if row.stage == stage and metric in row.values:
            iterations.setdefault(row.iteration, []).append(row.values[metric])
    if not iterations:
        return None
    means = {i: sum(values) / len(values) for i, values in sorted(iterations.items())}
    frame = _means(means) if len(means) > MANY else _steps(iterations, means)
    spoken = ", ".join(f"iteration {i} {number(means[i])}" for i in evenly(list(means), COLUMNS))
    title = metric.replace("_", " ")
    return Chart(
        title, frame.svg("series", f"mean by iteration: {spoken}"), f"Mean by iteration: {spoken}."
    )


def _means(means: Mapping[int, float]) -> Frame:
    """A line through the means of many iterations."""
    shown = evenly(list(means), MAX_POINTS)
    frame = Frame(len(shown), min(means.values()), max(means.values()))
    path = " ".join(f"{frame.x(k + 0.5):.1f},{frame.y(means[i]):.1f}" for k, i in enumerate(shown))
    frame.parts.append(f'<polyline class="line" points="{path}"/>')
    for k in range(0, len(shown), label_every(len(shown), 8)):
        frame.below(k + 0.5, str(shown[k]))
    return frame


def _steps(iterations: Mapping[int, Sequence[float]], means: Mapping[int, float]) -> Frame:
    """Every step, and the mean of each iteration."""
    size = math.ceil(sum(map(len, iterations.values())) / MAX_POINTS)
    groups = {i: _thin(iterations[i], size) for i in means}
    everything = [value for group in groups.values() for value in group]
    frame = Frame(len(everything), min(everything), max(everything))
    start = 0
    for place, (i, group) in enumerate(groups.items()):
        end = start + len(group)
        if start:
            x = frame.x(start)
            frame.parts.append(
                f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            )
        points = [(frame.x(start + k + 0.5), frame.y(value)) for k, value in enumerate(group)]
        if len(points) == 1:
            frame.parts.append(
                f'<circle class="dot" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2"/>'
            )
        else:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            frame.parts.append(f'<polyline class="thin" points="{path}"/>')
        y = frame.y(means[i])
        frame.parts.append(
            f'<line class="thick" x1="{frame.x(start) + 2:.1f}" x2="{frame.x(end) - 2:.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if place % label_every(len(groups), 12) == 0:
            frame.below((start + end) / 2, str(i) if len(groups) > 6 else f"iter {i}")
        start = end
    return frame


def by_iteration(title: str, iterations: Sequence[int], estimates: Sequence[Estimate]) -> Chart:
    """A probe metric over the iterations, each estimate with its 95 % interval.

    Of more than :data:`MANY` iterations as many are drawn, evenly spaced.
    """
    shown = evenly(list(zip(iterations, estimates, strict=True)), MANY)
    frame = Frame(len(shown), min(e.low for _, e in shown), max(e.high for _, e in shown))
    points = []
    for k, (i, e) in enumerate(shown):
        x, y = frame.x(k + 0.5), frame.y(e.mean)
        points.append(f"{x:.1f},{y:.1f}")
        frame.parts.append(
            f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{frame.y(e.low):.1f}" y2="{frame.y(e.high):.1f}"/>'
        )
        if k % label_every(len(shown), 8) == 0:
            frame.below(k + 0.5, "base" if i == 0 else str(i))
    frame.parts.append(f'<polyline class="line" points="{" ".join(points)}"/>')
    for point in points:
        x, y = point.split(",")
        frame.parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3.5"/>')
    spoken = ", ".join(
        f"{'base' if i == 0 else f'iteration {i}'} {e.mean:.3f}" for i, e in evenly(shown, COLUMNS)
    )
    return Chart(title, frame.svg("probe", spoken), f"{spoken}.")
