"""The figures of ``mmzero bench rewards``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.reward_measures import MEASURES, Measure, Summary
from trainers import atomic

_COLOR, _GREY = "#1b5e9b", "#999999"
STYLE: Any = {
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmzero",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#bbbbbb",
    "grid.color": "#e6e6e6",
}


def intervals(path: Path, title: str, rows: Mapping[str, Summary]) -> None:
    """A panel a measure, a design a line: the mean over seeds with its 95 % interval.

    Args:
        path: SVG file to write.
        title: Of the figure.
        rows: The table.
    """
    shown = [m for m in MEASURES if any(row[m.key] is not None for row in rows.values())]
    columns = 5
    lines = -(-len(shown) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 0.9 + lines * (0.8 + 0.2 * len(rows))), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for place, axis in enumerate(axes.flat):
            if place < len(shown):
                _panel(axis, shown[place], rows)
            else:
                axis.remove()
        write(figure, path)


def _panel(axis: Axes, measure: Measure, rows: Mapping[str, Summary]) -> None:
    for place, row in enumerate(rows.values()):
        found = row[measure.key]
        if found is not None:
            axis.plot([found.low, found.high], [place, place], color=_COLOR, linewidth=1.5)
            axis.plot(found.mean, place, "o", color=_COLOR, markersize=4)
    if measure.signed:
        axis.axvline(0, color=_GREY, linewidth=0.8)
    axis.set_title(measure.title, fontsize=9)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.5, -0.5)


def curves(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float | None]]]],
    *,
    across: str,
) -> None:
    """A panel a design: how some quantities go over a run.

    Args:
        path: SVG file to write.
        title: Of the figure.
        panels: By design and quantity, one series a seed, all of one length; None is a gap.
        across: What the horizontal axis counts.
    """
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        size = (3.2 * columns + 0.6, 1.9 * lines + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for place, axis in enumerate(axes.flat):
            if place >= len(panels):
                axis.remove()
                continue
            name, quantities = list(panels.items())[place]
            axis.set_title(name, fontsize=9)
            for number, (quantity, series) in enumerate(quantities.items()):
                _curve(axis, quantity, np.asarray(series, float), f"C{number}")
            if place // columns == lines - 1:
                axis.set_xlabel(across)
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        write(figure, path)


def _curve(axis: Axes, name: str, series: np.ndarray, color: str) -> None:
    steps = np.arange(1, series.shape[1] + 1)
    for one in series:
        axis.plot(steps, one, color=color, linewidth=0.5, alpha=0.35)
    axis.plot(steps, np.nanmean(series, axis=0), color=color, linewidth=1.6, label=name)


def write(figure: Figure, path: Path) -> None:
    """Write a figure as SVG; the same figure gives the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasSVG(figure)
    drawn = io.BytesIO()
    # No date, so that the same result gives the same file.
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    atomic.write_bytes(path, drawn.getvalue())
