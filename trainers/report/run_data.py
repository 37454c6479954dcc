"""Reads a run directory, finished or half-written, into plain data.

A run that was cut off is the normal case: what is missing is listed and the
rest is shown. A file that is there but damaged is an error that names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError

KEYS = ("iteration", "stage", "step")
"""The columns of ``metrics.jsonl`` that place a row; all others are metrics."""


@dataclass(frozen=True)
class Estimate:
    """A measured share or score with its 95 % interval.

    Attributes:
        mean: Point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of independent items behind it.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Probe:
    """True scores of every role by iteration.

    Attributes:
        iterations: Iteration numbers; 0 is the base model.
        metrics: For each metric, one estimate an entry of ``iterations``.
        change: For each metric, its difference from the base over the same
            items, one estimate an entry of ``iterations``; empty when the probe
            did not keep single items.
    """

    iterations: tuple[int, ...]
    metrics: Mapping[str, tuple[Estimate, ...]]
    change: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricRow:
    """One line of ``metrics.jsonl``."""

    iteration: int
    stage: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Warned:
    """One line of ``warnings.jsonl``."""

    iteration: int
    stage: str
    step: int
    text: str


@dataclass(frozen=True)
class RunData:
    """Everything of a run except its episodes.

    Attributes:
        path: The run directory.
        config: The resolved configuration, as it was saved.
        rows: Metrics in the order in which they were written.
        probe: True scores, or None when the run has not measured any.
        missing: One sentence for everything that a finished run would have and
            this one lacks.
        warnings: What the monitors said, in order.
    """

    path: Path
    config: Mapping[str, Any]
    rows: tuple[MetricRow, ...]
    probe: Probe | None
    missing: tuple[str, ...]
    warnings: tuple[Warned, ...] = ()


def load(path: Path) -> RunData:
    """Read a run directory.

    Args:
        path: The directory that ``mmzero evolve --out`` wrote.

    Raises:
        UserError: If it is not a run directory, or one of its files is damaged.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; expected a run directory of `mmzero evolve`.")
    config_path = path / "config.json"
    if not config_path.is_file():
        raise UserError(
            f"{path} holds no config.json; expected a run directory of `mmzero evolve`."
        )
    config = read_json(config_path)
    missing = []
    rows: tuple[MetricRow, ...] = ()
    metrics_path = path / "metrics.jsonl"
    if metrics_path.is_file():
        lines, cut = read_jsonl(metrics_path)
        rows = tuple(_row(line, metrics_path, n) for n, line in enumerate(lines, 1))
        if cut:
            missing.append("The last line of metrics.jsonl is cut off and was left out.")
    if not rows:
        missing.append("No step has been logged yet (metrics.jsonl is missing or empty).")
    probe = None
    probe_path = path / "probe.json"
    if probe_path.is_file():
        probe = _probe(read_json(probe_path), probe_path)
    else:
        missing.append("No true accuracy has been measured yet (probe.json is missing).")
    return RunData(path, config, rows, probe, tuple(missing), _warnings(path / "warnings.jsonl"))


def _warnings(path: Path) -> tuple[Warned, ...]:
    if not path.is_file():
        return ()
    lines, _ = read_jsonl(path)
    try:
        return tuple(
            Warned(int(w["iteration"]), str(w["stage"]), int(w["step"]), str(w["text"]))
            for w in lines
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: expected rows with iteration, stage, step and text "
            f"({type(error).__name__}: {error})."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: If the file does not hold one JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: expected a JSON object, but {error}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: expected a JSON object, found {type(value).__name__}.")
    return value


def read_jsonl(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects in a JSON-lines file, and whether its last line is cut off.

    A process that is killed while it writes leaves a partial last line; that is
    no damage. A bad line anywhere else is.

    Raises:
        UserError: If a line other than an unfinished last one is not a JSON object.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    unfinished = lines.pop() != ""
    if unfinished:
        lines = text.split("\n")
    values = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            if unfinished and number == len(lines):
                return values, True
            raise UserError(
                f"{path} is damaged at line {number}: expected a JSON object, but {error}."
            ) from error
        if not isinstance(value, dict):
            raise UserError(f"{path} is damaged at line {number}: expected a JSON object.")
        values.append(value)
    return values, False


def _row(value: Mapping[str, Any], path: Path, number: int) -> MetricRow:
    try:
        iteration, stage, step = int(value["iteration"]), str(value["stage"]), int(value["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged at line {number}: expected the keys {', '.join(KEYS)}."
        ) from error
    # A metric that a step did not define is written as null: a gap, not a zero.
    values = {
        key: float(number_)
        for key, number_ in value.items()
        if key not in KEYS
        and isinstance(number_, int | float)
        and not isinstance(number_, bool)
        and math.isfinite(number_)
    }
    return MetricRow(iteration, stage, step, values)


def _probe(value: Mapping[str, Any], path: Path) -> Probe:
    try:
        iterations = tuple(int(i) for i in value["iterations"])
        metrics = _estimates(value["metrics"])
        change = _estimates(value.get("change", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{path} is damaged: expected {{"iterations": [...], "metrics": {{name: '
            f'[{{"mean", "low", "high", "n"}}, ...]}}}} ({type(error).__name__}: {error}).'
        ) from error
    for name, estimates in (*metrics.items(), *change.items()):
        if len(estimates) != len(iterations):
            raise UserError(
                f"{path} is damaged: {name} has {len(estimates)} entries for "
                f"{len(iterations)} iterations."
            )
    return Probe(iterations, metrics, change)


def _estimates(table: Mapping[str, Any]) -> dict[str, tuple[Estimate, ...]]:
    return {
        str(name): tuple(
            Estimate(float(e["mean"]), float(e["low"]), float(e["high"]), int(e["n"]))
            for e in estimates
        )
        for name, estimates in table.items()
    }
