"""A run directory as one page.

The page is put together twice over: first without episodes, to see how many bytes are left
for them, then with as many as fit :data:`LIMIT`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from mmzero_env.protocol import ROLES
from trainers.audit_metrics import METRICS
from trainers.report import accuracy, charts, gallery, pages
from trainers.report.coevolution import coevolution
from trainers.report.failures import failures
from trainers.report.run_data import MetricRow, Probe, RunData, load
from trainers.report.scan import Scan, Scanner
from trainers.report.spacing import COLUMNS, evenly
from trainers.version import version as installed_version

LIMIT = 20_000_000
"""Bytes of a report at most."""
MAX_WARNINGS = 100
MAX_CONFIG = 100_000
"""Characters of the settings; those of a run are a few thousand."""
MAX_CHARTS = 120
"""Charts of one stage; a run logs about fifty metrics."""


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        path: Where it is.
        notes: What was missing or could not be read.
        shown: Episodes that it shows.
        total: Episodes that were recorded.
    """

    path: Path
    notes: tuple[str, ...]
    shown: int
    total: int


def write(run: Path, *, scanner: Scanner | None = None, refresh: float = 0) -> Written:
    """Write ``report.html`` into a run directory, over an older one.

    Args:
        run: A run directory, finished or not.
        scanner: Remembers the files that have not changed since its last use.
        refresh: Seconds after which the page loads itself anew; 0 for never.

    Raises:
        UserError: If it is no directory, or holds nothing of a run.
    """
    data = load(run)
    scans = (scanner or Scanner()).scan(run / "episodes")
    page, shown = render(data, scans, refresh=refresh)
    path = run / "report.html"
    # A name of its own: a run that ends and somebody who watches it may write at once.
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # A page holds no lone surrogate: the templates replace them.
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Written(path, (*data.missing, *shown.notes), shown.shown, shown.total)


def render(
    run: RunData, scans: Sequence[Scan], *, limit: int = LIMIT, refresh: float = 0
) -> tuple[str, gallery.Gallery]:
    """The report's HTML, and the episodes in it.

    Args:
        run: The run, as :func:`load` read it.
        scans: Its episodes, from :class:`Scanner`.
        limit: Most bytes of the page in UTF-8.
        refresh: Seconds after which the page loads itself anew; 0 for never.
    """
    fixed = _fixed(run, scans) | {"refresh": refresh}
    template = pages.environment().get_template("report.html")
    spent = len(template.render(fixed | {"gallery": gallery.collect(scans, 0)}).encode())
    # Headings and the strip come on top of the cards; 3 % of the usual limit are far more.
    budget = int((limit - spent) * 0.97)
    while True:
        found = gallery.collect(scans, budget)
        page = template.render(fixed | {"gallery": found})
        over = len(page.encode()) - limit
        if over <= 0 or budget <= 0:
            return page, found
        budget -= over


def _fixed(run: RunData, scans: Sequence[Scan]) -> dict[str, Any]:
    """What the page shows beside the episodes."""
    table = accuracy.rows(run.probe) if run.probe else []
    together = coevolution(run.probe.iterations, table) if run.probe else None
    script = pages.script()
    settings = json.dumps(run.config, indent=2, ensure_ascii=False)
    return {
        "name": run.path.resolve().name,
        "facts": _facts(run, scans),
        "missing": run.missing,
        "together": together and {"svg": Markup(together.svg), "lines": together.lines},
        "columns": _columns(run.probe),
        "table": [
            (role, list(rows))
            for role, rows in itertools.groupby(_thinned(table), lambda r: r.role)
        ],
        "headline": _headline(table),
        "change_cell": accuracy.change_cell,
        "probe_charts": _probe_charts(run.probe, table),
        "step_charts": _step_charts(run.rows),
        "audit_charts": _audit_charts(run.rows),
        "audit_metrics": METRICS,
        "warnings": run.warnings[-MAX_WARNINGS:],
        "warnings_before": max(0, len(run.warnings) - MAX_WARNINGS),
        "failures": failures(scans),
        "config": settings[:MAX_CONFIG],
        "roles": ROLES,
        "version": installed_version(),
        "policy": pages.policy(script),
        "css": pages.style(),
        "script": script,
        "link": _link,
    }


def _link(path: Path) -> str:
    """A file of episodes relative to the report."""
    return f"episodes/{quote(path.name)}"


def _facts(run: RunData, scans: Sequence[Scan]) -> list[tuple[str, str]]:
    """The few settings that name a run, as far as its configuration has them."""
    facts = [
        (key, str(run.config[key])[:200])
        for key in ("preset", "seed", "model")
        if key in run.config
    ]
    if run.rows:
        facts.append(("iterations", str(max(row.iteration for row in run.rows))))
        facts.append(("training steps", f"{len(run.rows):,}"))
    if scans:
        facts.append(("episodes", f"{sum(len(scan.rewards) for scan in scans):,}"))
    return facts


def _columns(probe: Probe | None) -> list[str]:
    return evenly(accuracy.column_names(probe), COLUMNS) if probe else []


def _thinned(table: Sequence[accuracy.AccuracyRow]) -> list[accuracy.AccuracyRow]:
    """The rows with as many estimates as the table has columns."""
    return [replace(row, estimates=tuple(evenly(row.estimates, COLUMNS))) for row in table]


def _headline(table: Sequence[accuracy.AccuracyRow]) -> str:
    """The table in one sentence."""
    verdicts = [row.change.verdict for row in table if row.change]
    if not verdicts:
        return "The base model, before any training."
    up, down = verdicts.count("up"), verdicts.count("down")
    return (
        f"Of {len(verdicts)} true metrics {up} rose and {down} fell by more than their "
        f"interval; {len(verdicts) - up - down} stayed within it."
    )


def _drawn(chart: charts.Chart) -> Mapping[str, object]:
    # Safe as markup: charts hold numbers and fixed words, and labels that are escaped.
    return {"title": chart.title, "svg": Markup(chart.svg)}


def _probe_charts(
    probe: Probe | None, table: Sequence[accuracy.AccuracyRow]
) -> list[tuple[str, list[Mapping[str, object]]]]:
    if probe is None or not probe.iterations:
        return []
    return [
        (
            role,
            [
                _drawn(charts.by_iteration(row.label, probe.iterations, row.estimates))
                for row in rows
            ],
        )
        for role, rows in itertools.groupby(table, lambda row: row.role)
    ]


def _step_charts(rows: Sequence[MetricRow]) -> list[tuple[str, list[Mapping[str, object]]]]:
    """Charts of every metric of every stage; the reward leads, then what belongs together."""
    return _by_stage(rows, lambda name: name not in METRICS, lambda name: (name != "reward", name))


def _audit_charts(rows: Sequence[MetricRow]) -> list[tuple[str, list[Mapping[str, object]]]]:
    """The same of the metrics that compare with the truth, in the order of their list."""
    return _by_stage(rows, lambda name: name in METRICS, list(METRICS).index)


def _by_stage(
    rows: Sequence[MetricRow], wanted: Callable[[str], bool], order: Callable[[str], Any]
) -> list[tuple[str, list[Mapping[str, object]]]]:
    found = []
    for stage in dict.fromkeys(row.stage for row in rows):
        names = {name for row in rows if row.stage == stage for name in row.values}
        shown = sorted(filter(wanted, names), key=order)[:MAX_CHARTS]
        drawn = [chart for name in shown if (chart := charts.by_step(rows, stage, name))]
        if drawn:
            found.append((stage, [_drawn(chart) for chart in drawn]))
    return found
