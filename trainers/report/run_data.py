"""Reads a run directory, finished or half-written, into plain data.

A run that was cut off is the normal case, and a damaged one or a directory of something else
happens: what is missing or cannot be read is listed, and the rest is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mmzero_env.errors import UserError

_T = TypeVar("_T")

PARTS = ("config.json", "metrics.jsonl", "probe.json", "episodes")
"""What makes a directory one of a run: any of these."""
SETTINGS = frozenset(("preset", "model", "iterations", "seed", "reward_design"))
"""Settings of which every run has some."""
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
            this one lacks, and for everything that cannot be read.
        warnings: What the monitors said, in order.
    """

    path: Path
    config: Mapping[str, Any]
    rows: tuple[MetricRow, ...]
    probe: Probe | None
    missing: tuple[str, ...]
    warnings: tuple[Warned, ...] = ()


def load(path: Path) -> RunData:
    """Read a run directory, finished or not, whole or damaged.

    Args:
        path: The directory that ``mmzero evolve --out`` wrote.

    Raises:
        UserError: If it is no directory, or holds nothing of a run.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; expected a run directory of `mmzero evolve`.")
    if not any((path / name).exists() for name in PARTS):
        raise UserError(
            f"{path} holds nothing of a run ({', '.join(PARTS)}); expected a run directory of "
            "`mmzero evolve`."
        )
    missing: list[str] = []
    config = _part(lambda: _config(path / "config.json", missing), missing) or {}
    rows = _part(lambda: _rows(path / "metrics.jsonl", missing), missing) or ()
    probe = _part(lambda: _probe_of(path / "probe.json", missing), missing)
    warnings = ()
    if (path / "warnings.jsonl").is_file():
        said = _part(lambda: tuple(_lines(path / "warnings.jsonl", _warned, missing)), missing)
        warnings = said or ()
    if not (path / "episodes").is_dir():
        missing.append("No episode has been recorded yet (the folder episodes is missing).")
    return RunData(path, config, rows, probe, tuple(missing), warnings)


def _part(read: Callable[[], _T], missing: list[str]) -> _T | None:
    """What one file gives; a damaged one is noted and left out."""
    try:
        return read()
    except UserError as error:
        missing.append(f"{error} This file was left out.")
    except OSError as error:
        missing.append(f"{error.filename} cannot be read ({error.strerror}) and was left out.")
    return None


def _config(path: Path, missing: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        missing.append("The settings of the run are missing (config.json).")
        return {}
    config = read_json(path)
    if not SETTINGS & config.keys():
        missing.append(
            "config.json has none of the settings of a run "
            f"({', '.join(sorted(SETTINGS))}): this may be no run directory of mmzero evolve."
        )
    return config


def _rows(path: Path, missing: list[str]) -> tuple[MetricRow, ...]:
    rows = tuple(_lines(path, _row, missing)) if path.is_file() else ()
    if not rows:
        missing.append("No step has been logged yet (metrics.jsonl is missing or empty).")
    return rows


def _probe_of(path: Path, missing: list[str]) -> Probe | None:
    if not path.is_file():
        missing.append("No true accuracy has been measured yet (probe.json is missing).")
        return None
    return _probe(read_json(path), path)


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


def _lines(path: Path, read: Callable[[Mapping[str, Any]], _T], missing: list[str]) -> Iterator[_T]:
    """What the lines of a JSON-lines file give; those that cannot be read are noted.

    A process that is killed while it writes leaves a partial last line.
    """
    bad = []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    last = lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise UserError(f"expected a JSON object, found {type(value).__name__}")
            yield read(value)
        except (ValueError, UserError) as error:
            bad.append(f"line {number}: {error}")
    if last:
        missing.append(f"The last line of {path.name} is cut off and was left out.")
    if bad:
        count = "a line was" if len(bad) == 1 else f"{len(bad)} lines were"
        missing.append(f"{path.name} is damaged, {count} left out; {bad[0]}.")


def _row(value: Mapping[str, Any]) -> MetricRow:
    try:
        iteration, stage, step = int(value["iteration"]), str(value["stage"]), int(value["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"expected the keys {', '.join(KEYS)}") from error
    # A metric that a step did not define is written as null: a gap, not a zero.
    values = {
        key: float(number)
        for key, number in value.items()
        if key not in KEYS
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
    }
    return MetricRow(iteration, stage, step, values)


def _warned(value: Mapping[str, Any]) -> Warned:
    try:
        return Warned(
            int(value["iteration"]), str(value["stage"]), int(value["step"]), str(value["text"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("expected the keys iteration, stage, step and text") from error


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
