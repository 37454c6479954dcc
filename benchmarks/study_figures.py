"""The figures of ``mmzero bench study``: curves over the iterations, and the evolution strip."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.reward_figures import STYLE, write
from benchmarks.study_measures import ArmRuns
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import Renderer

PANELS = {
    "solver_hard_sampled": "Solver, hard, sampled",
    "solver_easy_sampled": "Solver, easy, sampled",
    "solver_hard_pass": "Solver, hard, pass@8",
    "silver_accuracy": "silver labels true",
    "coder_faithful": "Coder faithful",
    "coder_render": "Coder renders",
    "proposer_valid": "Proposer valid",
    "proposer_own_answer": "Proposer's own answer true",
}


def curves(path: Path, title: str, arms: Mapping[str, ArmRuns]) -> None:
    """A panel a metric, a line an arm over the iterations, with its 95 % interval.

    Args:
        path: SVG file to write.
        title: Of the figure.
        arms: The runs of every arm.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 5.6), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(2, 4, sharex=True)
        for axis, (metric, heading) in zip(axes.flat, PANELS.items(), strict=True):
            axis.set_title(heading, fontsize=9)
            for number, (name, runs) in enumerate(arms.items()):
                found = runs.metric(metric)
                known = [(i, each) for i, each in enumerate(found) if each is not None]
                if not known:
                    continue
                at = [i for i, _ in known]
                color = f"C{number}"
                axis.plot(at, [e.mean for _, e in known], color=color, linewidth=1.5, label=name)
                low, high = [e.low for _, e in known], [e.high for _, e in known]
                axis.fill_between(at, low, high, color=color, alpha=0.12, linewidth=0)
            axis.set_ylim(max(axis.get_ylim()[0], -0.02), min(axis.get_ylim()[1], 1.02))
        for axis in axes[1]:
            axis.set_xlabel("iteration")
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6))
        write(figure, path)


def strip(path: Path, title: str, cells: Sequence[Mapping[str, Any]], columns: int = 6) -> None:
    """The same topics across the iterations: a picture, and the hard question under it.

    Args:
        path: SVG file to write.
        title: Of the figure.
        cells: What :func:`benchmarks.study_run.strip` gave.
        columns: Most iterations to show, evenly chosen.
    """
    topics = list(dict.fromkeys(cell["topic"] for cell in cells))
    all_of = sorted({cell["iteration"] for cell in cells})
    places = np.linspace(0, len(all_of) - 1, min(columns, len(all_of))).round().astype(int)
    shown = [all_of[place] for place in dict.fromkeys(places.tolist())]
    by_place = {(cell["topic"], cell["iteration"]): cell for cell in cells}
    with Renderer(size=192, workers=0) as renderer, matplotlib.rc_context(STYLE):
        size = (2.1 * len(shown) + 0.4, 2.5 * len(topics) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(len(topics), len(shown), squeeze=False)
        for row, topic in enumerate(topics):
            for column, iteration in enumerate(shown):
                axis = axes[row][column]
                axis.grid(visible=False)
                axis.set_xticks([])
                axis.set_yticks([])
                cell = by_place[topic, iteration]
                if row == 0:
                    axis.set_title(
                        "base" if iteration == 0 else f"iteration {iteration}", fontsize=9
                    )
                if column == 0:
                    axis.set_ylabel(topic.split(" (")[0], fontsize=7)
                if "svg" in cell:
                    (drawing,) = renderer.render([RenderJob(f"{row}/{column}", cell["svg"])])
                    if drawing.image is not None:
                        axis.imshow(drawing.image)
                    axis.set_xlabel(_wrapped(cell["hard_question"]), fontsize=6.5)
                else:
                    axis.set_xlabel("no picture", fontsize=6.5)
        write(figure, path)


def _wrapped(text: str) -> str:
    # A dollar sign would begin a formula.
    return "\n".join(textwrap.wrap(text, 36, max_lines=3)).replace("$", r"\$")
