"""Do the monitors warn before a run collapses, and are they silent when it does not?

    python -m benchmarks.collapse [--runs agreement stride …] [--seeds 0 1 2] [--table]

Plays nano runs that collapse on purpose (:data:`RUNS`) and runs of the preset as it is, one
after the other, and keeps their metrics in ``benchmarks/results/collapse``; with ``--table``
it only reads what is there. Prints for every run the step of the first warning and the
steps at which reward and truth turn down, and counts warnings in healthy runs as false
alarms. Writes the table as Markdown and a chart beside the metrics.

The truth comes from the captions of the procedural world (:mod:`trainers.audit`); the
monitors never see it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmzero_env.errors import UserError, unknown
from trainers import config as configs
from trainers import evolve
from trainers.monitor_config import MonitorConfig
from trainers.monitors import Row, Warn, warnings_of
from trainers.progress import choose
from trainers.report import charts
from trainers.report.run_data import MetricRow
from trainers.rollback import decide

RESULTS = Path(__file__).parent / "results" / "collapse"
SMOOTH = 5
"""Steps of the running mean that a downturn is read from."""
LEAST_DROP = 0.05
"""Smallest fall of the running mean that is called a downturn."""
ERRORS = 4
"""Standard errors that it must exceed, too: a largest value is compared with all later ones, and
series of 25 to 40 steps of pure noise show such a fall in 2 to 3 of 100."""

_SMALL = {"probe.items": "60", "probe.samples": "2"}
_SOLVER = {
    **_SMALL,
    "iterations": "1",
    "proposer.steps": "0",
    "coder.steps": "0",
    "filters.easy_low": "0",
    "filters.hard_low": "0",
    "filters.hard_high": "1",
    # So small that it holds nothing back: the KL is measured, no more.
    "solver.beta": "1e-6",
    "solver.max_epochs": "0",
    "solver.pool": "120",
}


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        what: What is wrong with it, for the table.
        settings: Differences from ``nano-cpu``.
        truth: The metric of a step that tells the truth about what is trained; empty if
            there is none.
        probe: The metric of the probe that does; empty for a run in which all is well.
    """

    what: str
    settings: Mapping[str, str]
    truth: str = ""
    probe: str = ""

    @property
    def collapses(self) -> bool:
        """Whether it is meant to."""
        return bool(self.probe)


RUNS: Mapping[str, Kind] = {
    "agreement": Kind(
        "Solver paid for agreement alone, no filters, no KL, 20 times the learning rate",
        {
            **_SOLVER,
            "reward_design": "evolmm",
            "solver.learning_rate": "2e-3",
            "solver.steps": "40",
        },
        "answers_true",
        "solver_hard_sampled",
    ),
    "stride": Kind(
        "Solver with labels, no filters, no KL, a learning rate that keeps rising to 90 times",
        {
            **_SOLVER,
            "solver.learning_rate": "1e-2",
            "solver.warmup_updates": "40",
            "solver.steps": "36",
        },
        "answers_true",
        "solver_hard_sampled",
    ),
    "narrow": Kind(
        "Proposer without the terms of diversity, no KL, 25 times the learning rate",
        {
            **_SMALL,
            "iterations": "1",
            "coder.steps": "0",
            "solver.steps": "0",
            "reward_design": "no_diversity",
            "proposer.learning_rate": "5e-3",
            "proposer.beta": "1e-6",
            "proposer.steps": "40",
            "proposer.prompts_per_step": "8",
        },
        probe="proposer_valid",
    ),
    "healthy": Kind("nano-cpu as it is", _SMALL),
}


def play(kind: str, seed: int) -> None:
    """Make a run and keep its metrics."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        settings = {**RUNS[kind].settings, "seed": str(seed), "out": str(out)}
        progress = choose()
        try:
            evolve.run(configs.load("nano-cpu", settings), resume=False, progress=progress)
        finally:
            progress.close()
        keep(out, kind, seed)


def keep(run: Path, kind: str, seed: int, folder: Path = RESULTS) -> Path:
    """Write what the table needs of a run: its metrics without times, and the probe's means.

    Args:
        run: A run directory.
        kind: One of :data:`RUNS`.
        seed: The run's.
        folder: Where to.
    """
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    probe = json.loads((run / "probe.json").read_text())
    found = {
        "kind": kind,
        "seed": seed,
        "settings": dict(RUNS[kind].settings),
        "probe": {name: [_short(e["mean"]) for e in es] for name, es in probe["metrics"].items()},
    }
    lines = [json.dumps({k: _short(v) for k, v in row.items() if _steady(k)}) for row in rows]
    path = folder / f"{kind}-{seed}.json"
    head = json.dumps(found, indent=1)[:-2]
    path.write_text(head + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
    return path


def _steady(key: str) -> bool:
    return not key.startswith(("seconds_", "reward/")) and key not in ("loss", "pool", "updates")


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


@dataclass(frozen=True)
class Run:
    """A run that was kept."""

    kind: str
    seed: int
    rows: Sequence[Row]
    probe: Mapping[str, Sequence[float]]

    @classmethod
    def read(cls, path: Path) -> Run:
        """From a file of :func:`keep`."""
        found = json.loads(path.read_text())
        return cls(found["kind"], found["seed"], found["rows"], found["probe"])

    @property
    def warnings(self) -> list[Warn]:
        """What the monitors say to it."""
        return warnings_of(self.rows, MonitorConfig())

    def turn(self, metric: str) -> Turn | None:
        """Where a metric turns down."""
        rows = [row for row in self.rows if row.get(metric) is not None]
        turn = Turn.of([row[metric] for row in rows])
        return turn and Turn(rows[turn.peak]["step"], rows[turn.down]["step"])


@dataclass(frozen=True)
class Turn:
    """A downturn, found with hindsight.

    Attributes:
        peak: Step at which the running mean is largest.
        down: First step after it at which it has fallen by what is called a downturn.
    """

    peak: int
    down: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Turn | None:
        """The first downturn behind the largest value.

        The centred running mean over :data:`SMOOTH` steps falls below its largest value by
        more than :data:`LEAST_DROP` and :data:`ERRORS` standard errors of a difference of two
        such means. The noise of a step is read from neighbours, which a trend does not move.

        Returns:
            None if there is none.
        """
        smooth = running_mean(values)
        noise = float(np.std(np.diff(values), ddof=1)) / math.sqrt(2)
        drop = max(LEAST_DROP, ERRORS * noise * math.sqrt(2 / SMOOTH))
        peak = int(np.argmax(smooth))
        low = [i for i in range(peak, len(smooth)) if smooth[i] < smooth[peak] - drop]
        return cls(peak, low[0]) if low else None


def running_mean(values: Sequence[float]) -> np.ndarray:
    """The centred mean over :data:`SMOOTH` steps, over fewer at the ends."""
    half = SMOOTH // 2
    return np.array([np.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


HEADING = (
    "run",
    "seed",
    "first warning",
    "first trend",
    "reward turns down",
    "lead",
    "truth turns down",
    "lead",
    "probe, before → after",
    "rollback",
)


def table(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A line a run that collapses on purpose, the heading first.

    A downturn is given as the step of the peak and the step at which the fall shows, its lead
    as the steps from the first warning to each of them.
    """
    lines = [HEADING]
    for run in runs:
        kind = RUNS[run.kind]
        if not kind.collapses:
            continue
        first = next(iter(run.warnings), None)
        trend = next((warning for warning in run.warnings if warning.p is not None), None)
        cells = [run.kind, str(run.seed), _said(first), _said(trend)]
        for metric in ("reward", kind.truth):
            turn = run.turn(metric) if metric else None
            cells.append(f"{turn.peak}, {turn.down}" if turn else "no" if metric else "–")
            leads = (turn.peak - first.step, turn.down - first.step) if turn and first else ()
            cells.append(", ".join(f"{lead:+d}" for lead in leads) or "–")
        before, after = run.probe[kind.probe][0], run.probe[kind.probe][-1]
        verdict = decide(run.rows, MonitorConfig(rollback="retry"), 1)
        lines.append((*cells, f"{before:.2f} → {after:.2f}", verdict.action.replace("_", " ")))
    return lines


def _said(warning: Warn | None) -> str:
    return f"{warning.step} ({warning.quantity})" if warning else "none"


@dataclass(frozen=True)
class Alarms:
    """False alarms.

    Attributes:
        runs: Healthy runs.
        alarmed: Those with at least one warning.
        stages: Their stages.
        loud: Those with at least one warning.
        warnings: All warnings.
    """

    runs: int
    alarmed: int
    stages: int
    loud: int
    warnings: tuple[Warn, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Alarms:
        """Count them in the healthy ones of these runs."""
        healthy = [run for run in runs if not RUNS[run.kind].collapses]
        said = [run.warnings for run in healthy]
        stages = {
            (k, r["iteration"], r["stage"]) for k, run in enumerate(healthy) for r in run.rows
        }
        loud = {(k, w.iteration, w.stage) for k, found in enumerate(said) for w in found}
        return cls(
            len(healthy),
            sum(map(bool, said)),
            len(stages),
            len(loud),
            tuple(w for found in said for w in found),
        )

    def text(self) -> str:
        """In a sentence."""
        names = ", ".join(f"{w.stage} {w.quantity}" for w in self.warnings)
        return (
            f"healthy runs: {self.alarmed} of {self.runs} with a warning, {self.loud} of "
            f"{self.stages} stages" + (f" ({names})" if names else "")
        )


STYLE = (
    "svg{font:9px sans-serif}text{fill:#555}.grid{stroke:#ddd}.thin{fill:none;stroke:#8aa9c9}"
    ".thick,.cut{stroke:none}.mean{fill:none;stroke:#1b5e9b;stroke-width:2}"
    ".warn{stroke:#c33;stroke-dasharray:3 2}.title{font-weight:bold;fill:#222}"
)


def figure(runs: Sequence[Run]) -> str:
    """Reward and truth of every run by step, with the first warning as a dashed line."""
    panels = []
    collapsing = [run for run in runs if RUNS[run.kind].collapses]
    for place, run in enumerate(collapsing):
        first = run.warnings[0].step if run.warnings else None
        for column, metric in enumerate(("reward", RUNS[run.kind].truth or "render_rate")):
            x, y = 10 + column * (charts.WIDTH + 20), 20 + place * (charts.HEIGHT + 30)
            panels.append(_panel(run, metric, first, x, y))
    width, height = 2 * charts.WIDTH + 50, 20 + len(collapsing) * (charts.HEIGHT + 30)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _panel(run: Run, metric: str, first: int | None, x: int, y: int) -> str:
    rows = [
        MetricRow(row["iteration"], row["stage"], row["step"], {metric: row[metric]})
        for row in run.rows
        if row.get(metric) is not None
    ]
    chart = charts.by_step(rows, rows[0].stage, metric)
    assert chart is not None
    values = [row.values[metric] for row in rows]
    frame = charts.Frame(len(values), min(values), max(values))
    mean = " ".join(
        f"{frame.x(i + 0.5):.1f},{frame.y(v):.1f}" for i, v in enumerate(running_mean(values))
    )
    marks = f'<polyline class="mean" points="{mean}"/>'
    if first is not None:
        # Steps without the metric have no place in the chart.
        at = frame.x(sum(row.step <= first for row in rows) - 0.5)
        marks += (
            f'<line class="warn" x1="{at:.1f}" x2="{at:.1f}" y1="{charts.TOP}" '
            f'y2="{charts.HEIGHT - charts.BOTTOM}"/>'
        )
    drawn = chart.svg.replace("<svg ", f'<svg width="{charts.WIDTH}" height="{charts.HEIGHT}" ', 1)
    drawn = drawn.removesuffix("</svg>") + marks + "</svg>"
    title = f"{run.kind}, seed {run.seed}: {chart.title}"
    return f'<g transform="translate({x} {y})"><text class="title" x="46">{title}</text>{drawn}</g>'


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    heading, *body = lines
    rows = [heading, ["---"] * len(heading), *body]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is asked for, then print and write the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", nargs="*", default=list(RUNS), help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="play nothing")
    args = parser.parse_args(argv)
    for kind in args.runs:
        if kind not in RUNS:
            raise unknown("run", kind, RUNS)
        for seed in () if args.table else args.seeds:
            play(kind, seed)
    runs = [Run.read(path) for path in sorted(RESULTS.glob("*-*.json"))]
    if not runs:
        raise UserError(f"{RESULTS} holds no runs; leave out --table to make them.")
    lines, alarms = table(runs), Alarms.of(runs).text()
    shown = Table(*lines[0])
    for line in lines[1:]:
        shown.add_row(*line)
    Console(width=150).print(shown)
    print(alarms)
    (RESULTS / "table.md").write_text(f"{markdown(lines)}\n{alarms}\n")
    (RESULTS / "collapse.svg").write_text(figure(runs))


if __name__ == "__main__":
    main()
