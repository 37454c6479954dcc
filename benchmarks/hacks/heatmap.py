"""The findings as a heat map."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.hacks.tables import short
from benchmarks.hacks.verdicts import Results

_LIMIT = 0.6
"""Difference at which the colour is full; a Coder's go far beyond."""


def heatmap(results: Results) -> str:
    """An SVG: a row an adversary, a column a design, red where the cheat earns more."""
    rows, columns = len(results.adversaries), len(results.designs)
    findings = [
        [results.findings[each.name][name] for name in results.designs]
        for each in results.adversaries
    ]
    values = np.array([[found.difference.mean for found in row] for row in findings])
    figure = Figure(figsize=(3.2 + 0.85 * columns, 1.9 + 0.26 * rows), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
    for y, row in enumerate(findings):
        for x, found in enumerate(row):
            pays = found.verdict == "pays"
            axes.text(
                x,
                y,
                short(found),
                ha="center",
                va="center",
                fontsize=7.5,
                fontweight="bold" if pays else "normal",
                color="white" if abs(values[y, x]) > 0.7 * _LIMIT else "black",
            )
    axes.set_xticks(range(columns), results.designs, rotation=35, ha="left", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(
        range(rows), [f"{each.role}: {each.name}" for each in results.adversaries], fontsize=8
    )
    axes.tick_params(length=0)
    roles = [each.role for each in results.adversaries]
    for y in range(1, rows):
        if roles[y] != roles[y - 1]:
            axes.axhline(y - 0.5, color="black", linewidth=1)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.5, extend="both")
    bar.set_label("reward of the cheat less that of an honest player", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.supxlabel("▲ pays the cheat: the 95 % interval over seeds is above 0", fontsize=8)
    text = io.StringIO()
    # A fixed salt and no date, so that the same findings give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "hacks", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
