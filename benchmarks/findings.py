"""What a performance script found: plain figures for machines, tables for people, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.interval import Interval


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one quantity.

    Attributes:
        median: The middle one.
        low: The smallest.
        high: The largest.
        n: How many there are.
    """

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value.

        Raises:
            ValueError: If there is none.
        """
        if not values:
            raise ValueError("a spread needs at least one value, got none")
        low, high = float(min(values)), float(max(values))
        return cls(float(statistics.median(values)), low, high, len(values))

    def as_json(self) -> dict[str, float | int]:
        """``{"median", "min", "max", "n"}``."""
        return {"median": self.median, "min": self.low, "max": self.high, "n": self.n}

    def text(self, digits: int = 2) -> str:
        """``"2.35 (2.34 to 2.45)"``: median, smallest, largest; a single value stands alone."""
        middle, low, high = (f"{x:,.{digits}f}" for x in (self.median, self.low, self.high))
        return middle if self.n < 2 else f"{middle} ({low} to {high})"


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        title: What it shows, with units.
        columns: Headings; the first column holds names.
        rows: Cells as text, as many in each row as there are headings.
        note: A sentence below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse rows that do not fit."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {row} does not fit {self.columns}")


def to_the_right(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column holds figures, which stand to the right; names stand to the left."""
    cells = [row[place] for row in rows if row[place] not in ("", "–", "unknown")]
    return bool(cells) and all(cell[0] in "0123456789.+-≤≥" for cell in cells)


@dataclass(frozen=True)
class Ratio:
    """Two things measured side by side in one run: what may be said of speed elsewhere, too.

    Attributes:
        what: What is divided by what, ``"TRL / ours, CPU time of a Solver step"``.
        value: Repetition by repetition as a spread, or over seeds as an interval.
        headline: Whether it stands for the others in a summary.
    """

    what: str
    value: Spread | Interval
    headline: bool = True

    @classmethod
    def of(cls, what: str, over: Sequence[float], under: Sequence[float]) -> Ratio:
        """Repetition by repetition.

        Raises:
            ValueError: If there are not as many of both.
        """
        return cls(what, Spread.of([a / b for a, b in zip(over, under, strict=True)]))

    def text(self) -> str:
        """``"2.35 (2.34 to 2.45)"``, or with an interval ``"1.41 [1.32, 1.50]"``."""
        return self.value.text(2)


@dataclass(frozen=True)
class Findings:
    """All that one call of a script found.

    Attributes:
        figures: Plain data that JSON can hold.
        tables: The same for people.
        ratios: What was measured side by side.
        notes: What was left out and why, with the command that mends it, and remarks.
        seeds: Every seed that a figure depends on.
        packages: Distributions whose versions matter.
        ok: Whether what the script checks beside measuring holds; its exit code is 1 if not.
    """

    figures: Mapping[str, Any]
    tables: tuple[Table, ...]
    ratios: tuple[Ratio, ...] = ()
    notes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    packages: tuple[str, ...] = ()
    ok: bool = True

    def as_json(self) -> dict[str, Any]:
        """Figures, tables, ratios and notes as plain data."""
        return {
            "ratios": [
                {
                    "what": each.what,
                    "text": each.text(),
                    "headline": each.headline,
                    **each.value.as_json(),
                }
                for each in self.ratios
            ],
            "tables": [asdict(table) for table in self.tables],
            "notes": list(self.notes),
            "figures": dict(self.figures),
        }
