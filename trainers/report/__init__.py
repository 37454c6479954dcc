"""The report of a run: one HTML file that loads nothing and runs nothing.

:func:`write` turns a run directory into ``report.html``. Everything a model
wrote is escaped, and the page's own content policy forbids scripts and network
access, so that even a mistake in the escaping could not run anything.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmzero_env.protocol import ROLES
from trainers.audit_metrics import METRICS
from trainers.report import accuracy, charts, gallery
from trainers.report.run_data import Estimate, MetricRow, Probe, RunData, load
from trainers.version import version as installed_version

__all__ = ["Estimate", "Probe", "RunData", "load", "render", "write"]

TEMPLATES = Path(__file__).parent.parent / "templates"
PER_STAGE = 6
"""Episodes of the gallery from one stage of one iteration."""
MAX_PICTURED = 60
"""Most stages that are pictured in full; a longer run shows fewer episodes of each."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def write(run: Path) -> Path:
    """Write ``report.html`` into a run directory, over an older one.

    Args:
        run: A run directory, finished or not.

    Returns:
        The path of the report.

    Raises:
        UserError: If it is not a run directory or one of its files is damaged.
    """
    page = render(load(run))
    path = run / "report.html"
    unfinished = path.with_suffix(".html.part")
    unfinished.write_text(page, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def render(run: RunData) -> str:
    """The report's HTML.

    Args:
        run: The run, as :func:`load` read it; its episodes are read from its path.

    Raises:
        UserError: If an episode file is damaged.
    """
    stages = sum(1 for _ in (run.path / "episodes").glob("iter-*.jsonl"))
    per_stage = max(1, min(PER_STAGE, PER_STAGE * MAX_PICTURED // max(stages, 1)))
    shown = gallery.collect(run.path / "episodes", per_stage)
    table = accuracy.rows(run.probe) if run.probe else []
    template = _environment().get_template("report.html")
    return template.render(
        name=run.path.resolve().name,
        facts=_facts(run),
        missing=(*run.missing, *shown.missing),
        columns=accuracy.column_names(run.probe) if run.probe else [],
        table=[(role, list(rows)) for role, rows in itertools.groupby(table, lambda r: r.role)],
        headline=_headline(table),
        change_cell=accuracy.change_cell,
        probe_charts=_probe_charts(run.probe, table),
        step_charts=_step_charts(run.rows),
        audit_charts=_audit_charts(run.rows),
        audit_metrics=METRICS,
        warnings=run.warnings,
        gallery=[
            (iteration, list(groups))
            for iteration, groups in itertools.groupby(shown.groups, lambda g: g.iteration)
        ],
        per_stage=per_stage,
        failures=shown.failures,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        roles=ROLES,
        version=installed_version(),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def printable(value: Any) -> Any:
    """Text without the characters that no page can hold (controls, lone surrogates)."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROL.sub("\ufffd", value)
    return value


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _facts(run: RunData) -> list[tuple[str, str]]:
    """The few settings that name a run, as far as its configuration has them."""
    facts = [
        (key, str(run.config[key])) for key in ("preset", "seed", "model") if key in run.config
    ]
    if run.rows:
        facts.append(("iterations", str(max(row.iteration for row in run.rows))))
        facts.append(("training steps", str(len(run.rows))))
    return facts


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
    # Safe as markup: charts hold numbers and fixed words, never model text.
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
        shown = sorted(filter(wanted, names), key=order)
        drawn = [chart for name in shown if (chart := charts.by_step(rows, stage, name))]
        if drawn:
            found.append((stage, [_drawn(chart) for chart in drawn]))
    return found
