"""The table of a downstream evaluation, and the ten columns of the paper."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.downstream.sets import COLUMNS, SUITES
from benchmarks.interval import Interval

if TYPE_CHECKING:
    from benchmarks.downstream.command import Measured


def columns(measured: Sequence[Measured]) -> dict[str, Any]:
    """The ten columns and their unweighted mean, with the pictures, of every model.

    The three forms of MMMU-Pro are averaged into one column (published
    ``eval_accuracy_comparison.py``). pass@1, by the judge where there is one, else by rules.

    Returns:
        ``{label: {column: share, …, "mean": share}}``; empty unless all sets were asked.
    """
    shown = {each.looked.each.name: each for each in measured if each.shown}
    if not set(SUITES["paper"]) <= set(shown):
        return {}
    found: dict[str, Any] = {}
    for label in next(iter(shown.values())).rules:
        shares: dict[str, list[float]] = {column: [] for column in COLUMNS}
        for each in shown.values():
            if each.looked.each.column:
                graded = (each.judged or each.rules)[label]
                shares[each.looked.each.column].append(float(np.mean(graded.scores(1))))
        means = {column: float(np.mean(values)) for column, values in shares.items()}
        found[label] = {**means, "mean": float(np.mean(list(means.values())))}
    return found


def show(measured: Sequence[Measured], result: Mapping[str, Any], *, judged: bool) -> None:
    """Print the table on standard output; as wide as it needs when that is not a terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    models = result["models"]
    console.print(
        _table(result["sets"], "rules", "graded by rules, 95 % intervals over items", models)
    )
    if judged:
        console.print(_table(result["sets"], "judge", f"graded by {result['judge']}", models))
    if result["columns"]:
        console.print(_columns(result["columns"]))
    lower = [each["set"] for each in result["sets"] if each["rules_are_a_lower_bound"]]
    if lower and not judged:
        names = ", ".join(dict.fromkeys(lower))
        console.print(f"{names}: free answers, for which rules are a lower bound; see --judge")
    if result["judge_unclear"]:
        console.print(
            f"{result['judge_unclear']} verdicts of the judge were neither Yes nor No; counted No"
        )


def _table(sets: Sequence[Mapping[str, Any]], by: str, title: str, models: Any) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("set", "pictures", "items", "measure"):
        table.add_column(name, justify="right" if name == "items" else "left")
    for label in models:
        table.add_column(label, justify="right")
    if len(models) > 1:
        table.add_column("change", justify="right")
    for label in models:
        table.add_column(f"no answer, {label}", justify="right")
    previous = ""
    for each in sets:
        if previous and each["set"] != previous:
            table.add_section()
        found = each[by]
        changed = each.get("change" if by == "rules" else "judge_change", {})
        for place, k in enumerate(k for k in found["model"] if k.startswith("pass@")):
            cells = [_interval(found[label][k]).text() for label in models]
            if len(models) > 1:
                cells.append(_interval(changed[k]).text(signed=True))
            cells += [_unanswered(found[label]["answers"]) if not place else "" for label in models]
            head = [each["set"] if each["set"] != previous else ""]
            head += ["" if place else "with" if each["pictures"] else "without"]
            head += ["" if place else str(found["model"]["items"]), k]
            table.add_row(*head, *cells)
            previous = each["set"]
    return table


def _columns(columns: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title="the ten columns of the paper, pass@1 with pictures", title_justify="left")
    table.add_column("column")
    for label in columns:
        table.add_column(label, justify="right")
    for name in (*COLUMNS, "mean"):
        if name == "mean":
            table.add_section()
        table.add_row(name, *(f"{found[name]:.3f}" for found in columns.values()))
    return table


def _unanswered(states: Mapping[str, int]) -> str:
    """How many answers of all there were none, and why: ``"5 of 160: 4 no box, 1 failed"``."""
    without = {state: n for state, n in states.items() if n and state != "answered"}
    total = sum(states.values())
    if not without:
        return f"0 of {total}"
    reasons = ", ".join(f"{n} {state}" for state, n in without.items())
    return f"{sum(without.values())} of {total}: {reasons}"


def _interval(found: Mapping[str, Any]) -> Interval:
    return Interval(found["mean"], found["low"], found["high"], found["n"])
