"""The page with all tables of ``mmzero bench throughput``, from the results alone.

python -m benchmarks.throughput_page        # writes docs/bench-throughput.md anew
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import provenance
from benchmarks.catalogue import CATALOGUE, ROOT, Entry
from benchmarks.cells import duration
from benchmarks.findings import to_the_right
from trainers import atomic

RESULTS = provenance.RESULTS / "throughput"
PAGE = ROOT / "docs" / "bench-throughput.md"

Record = dict[str, Any]
"""What became of a script: ``status`` and what belongs to it, as plain data."""

MEASURED = "measured"
_LOAD = "load at the end (1, 5, 15 minutes)"
"""A fact that is no machine's."""

_INTRO = """\
# Throughput, memory and cost

<!-- Written by benchmarks/throughput_page.py from the results; changes here are lost. -->

`mmzero bench throughput` runs every performance script of the project by its own command, each in a
process of its own, and writes this page. Whoever stops it and calls it again with the same `--out`
goes on where it was; `--only NAME,NAME` and `--skip NAME,NAME` choose scripts.

    mmzero bench throughput --quick      # {quick} on two idle cores, rough
    mmzero bench throughput              # {full}
    mmzero bench throughput --publish    # the same, and this page from it

**Ratios are the claims**: both sides were measured in one call of one script, in turn, and another
machine should show about the same. Seconds, milliseconds and rates hold for the machine that is
named with them. "2.35 (2.34 to 2.45)" is a median with the smallest and the largest repetition, and
"1.41 [1.32, 1.50]" a mean over seeds with its 95 % interval (Student).
"""


def page(records: Mapping[str, Record], *, quick: bool = False) -> str:
    """The page.

    Args:
        records: What became of each script, by name; one that is not there was not asked for.
        quick: Whether these are quick figures.
    """
    known = {entry.name: records[entry.name] for entry in CATALOGUE if entry.name in records}
    machines = Machines(known.values())
    parts = [
        _INTRO.format(
            quick=about(sum(entry.quick_seconds for entry in CATALOGUE)),
            full=about(sum(entry.seconds for entry in CATALOGUE)),
        )
    ]
    if quick:
        parts.append("**Quick mode: these figures are rough. Do not quote them.**\n")
    parts += [*_warnings(known), *_summary(known), *_states(known, machines)]
    for group in dict.fromkeys(entry.group for entry in CATALOGUE):
        parts.append(f"## {group}\n")
        for entry in CATALOGUE:
            if entry.group == group:
                parts += _section(entry, known.get(entry.name), machines)
    parts += machines.section()
    return "\n".join(parts)


def about(seconds: float) -> str:
    """``"about 20 s"``, ``"about 3 min"``: no more digits than an estimate has."""
    if seconds < 60:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 20 else f"about {round(minutes, -1):.0f} min"


def headlines(record: Record) -> list[Mapping[str, Any]]:
    """The ratios that stand for the others."""
    return [ratio for ratio in record.get("ratios", ()) if ratio["headline"]]


def was_busy(record: Record) -> bool:
    """Whether more processes wanted to run than there are cores, before or after."""
    load = record.get("load")
    return load is not None and max(load["start"], load["end"]) > load["cores"]


def _warnings(records: Mapping[str, Record]) -> Iterator[str]:
    busy = [f"[{name}](#{name})" for name, record in records.items() if was_busy(record)]
    if busy:
        yield (
            f"**The machine was busy** (load above its number of cores) before or after "
            f"{', '.join(busy)}. Do not quote their figures.\n"
        )


def _summary(records: Mapping[str, Record]) -> Iterator[str]:
    yield "## Ratios measured side by side\n"
    rows = [
        (ratio["what"], ratio["text"], f"[{name}](#{name})")
        for name, record in records.items()
        for ratio in headlines(record)
    ]
    yield table(("what", "ratio", "script"), rows) if rows else "Nothing has been measured yet.\n"


def _states(records: Mapping[str, Record], machines: Machines) -> Iterator[str]:
    yield "## What ran\n"
    rows = []
    for entry in CATALOGUE:
        record = records.get(entry.name, {"status": "not measured"})
        took = load = machine = ""
        if record["status"] == MEASURED:
            took = duration(record["seconds"])
            load = f"{record['load']['start']:.1f} → {record['load']['end']:.1f}"
            machine = machines.name(record)
        rows.append((f"[{entry.name}](#{entry.name})", record["status"], took, load, machine))
    yield table(("script", "state", "took", "load, start → end", "machine"), rows)


def _section(entry: Entry, record: Record | None, machines: Machines) -> Iterator[str]:
    yield f"### {entry.name}\n"
    yield f"{entry.about}\n"
    measured = record is not None and record["status"] == MEASURED
    yield f"    {record['command'] if record and measured else shlex.join(entry.words(False))}\n"
    if record is None:
        yield f"Not measured. It takes {about(entry.seconds)} on two idle cores.\n"
    elif not measured:
        yield from _without_figures(record)
    else:
        yield _origin(record, machines)
        for each in record["tables"]:
            yield f"**{_text(each['title'])}**\n"
            yield table(each["columns"], each["rows"])
            if each["note"]:
                yield f"{_text(each['note'])}\n"
        if record["ratios"]:
            yield "**Ratios, side by side**\n"
            rows = [(ratio["what"], ratio["text"]) for ratio in record["ratios"]]
            yield table(("what", "ratio"), rows)
        for note in record["notes"]:
            yield f"{_text(note)}\n"


def _without_figures(record: Record) -> Iterator[str]:
    status, reason = record["status"].capitalize(), _text(record["reason"]).rstrip(".")
    if record.get("mend"):
        yield f"**{status}**: {reason}. To mend it: {_text(record['mend'])}\n"
    else:
        yield f"**{status}**: {reason}.\n"
    if record.get("tail"):
        yield "\n".join(f"    {line}" for line in record["tail"]) + "\n"


def _origin(record: Record, machines: Machines) -> str:
    load = record["load"]
    facts = [
        f"Took {duration(record['seconds'])} ({duration(record['cpu_seconds'])} of CPU)",
        f"load {load['start']:.1f} at the start, {load['end']:.1f} at the end, "
        f"{load['cores']} cores" + (" (**busy**)" if was_busy(record) else ""),
        f"revision {record['revision']}",
        f"machine {machines.name(record)}",
    ]
    if record["seeds"]:
        facts.append(f"seeds {', '.join(map(str, record['seeds']))}")
    facts += [f"{name}={value}" for name, value in record["environment"].items()]
    return "; ".join(facts) + ".\n"


class Machines:
    """The different machines and versions behind the records.

    Records of one machine name different packages, which are put together; a fact that differs
    makes another machine.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        """See the class."""
        self._known: list[dict[str, str]] = []
        for record in records:
            if record["status"] == MEASURED:
                self._add(_facts(record))

    def name(self, record: Record) -> str:
        """``"A"`` for the first."""
        facts = _facts(record)
        return next(
            chr(ord("A") + place)
            for place, known in enumerate(self._known)
            if all(known.get(name) == value for name, value in facts.items())
        )

    def section(self) -> Iterator[str]:
        """Their facts as a section of the page."""
        if not self._known:
            return
        yield "## Machines and versions\n"
        names = list(dict.fromkeys(name for known in self._known for name in known))
        letters = [chr(ord("A") + place) for place in range(len(self._known))]
        rows = [(name, *(known.get(name, "") for known in self._known)) for name in names]
        yield table(("", *letters), rows)

    def _add(self, facts: Mapping[str, str]) -> None:
        for known in self._known:
            if all(known.get(name, value) == value for name, value in facts.items()):
                known.update(facts)
                return
        self._known.append(dict(facts))


def _facts(record: Record) -> dict[str, str]:
    return {name: value for name, value in record["machine"].items() if name != _LOAD}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: names to the left, figures to the right."""
    right = (to_the_right(rows, place) for place in range(len(columns)))
    rule = "|".join("---:" if each else "---" for each in right)
    heading, *lines = (" | ".join(map(_text, row)) for row in (columns, *rows))
    return "".join(
        f"{line}\n" for line in (f"| {heading} |", f"|{rule}|", *(f"| {x} |" for x in lines))
    )


def _text(text: str) -> str:
    """Text whose signs mean nothing in Markdown or HTML, links aside."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")


def read(folder: Path) -> dict[str, Record]:
    """The records in a folder by name."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return {record["script"]: record for record in found}


def publish(records: Mapping[str, Record]) -> list[str]:
    """Write records beside those that were published before, and the page of all.

    Args:
        records: By name.

    Returns:
        Names of scripts that were not measured now, but before: these records stay.
    """
    before, kept = read(RESULTS), []
    for name, record in records.items():
        if record["status"] != MEASURED and before.get(name, {}).get("status") == MEASURED:
            kept.append(name)
        else:
            # What a script wrote when it failed names folders of this machine.
            public = {key: value for key, value in record.items() if key != "tail"}
            provenance.write_result(RESULTS / f"{name}.json", public)
    write_page()
    return kept


def write_page() -> None:
    """The documentation's page, from the published records."""
    atomic.write_text(PAGE, page(read(RESULTS)))


if __name__ == "__main__":
    write_page()
    print(f"written: {PAGE}")
