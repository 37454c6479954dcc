"""The findings as tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.hacks.verdicts import MARKS, Finding, Results, Verdict, verdict
from mmzero_env.protocol import ROLES

_STYLES: dict[Verdict, str] = {"pays": "bold red", "even": "dim", "costs": "green"}

LEGEND = (
    "Cheat less honest player, both in groups of the same prompts. ▲ pays the cheat (the 95 % "
    "interval over seeds is above 0), ▽ costs it, · neither."
)
COSTS = (
    "What right honest play loses: the share of right plays that a term takes something from, and "
    "how much that is on average over all of them."
)


def signed(value: float) -> str:
    """``"+.31"``; ``"0"`` for what rounds to it."""
    text = f"{value:+.2f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def overview(results: Results) -> Table:
    """Adversary by design: difference and verdict."""
    table = Table(title="what cheating brings", title_justify="left", caption=LEGEND)
    table.add_column("adversary")
    for name in results.designs:
        table.add_column(name, justify="right", overflow="fold")
    previous = ""
    for each in results.adversaries:
        if each.role != previous:
            table.add_section()
            table.add_row(f"[bold]{each.role}[/bold]")
        previous = each.role
        findings = [results.findings[each.name][name] for name in results.designs]
        table.add_row(each.name, *(f"[{_STYLES[f.verdict]}]{short(f)}[/]" for f in findings))
    return table


def details(results: Results, design: str) -> Table:
    """All figures of one design."""
    heading, *body = _detail_rows(results, design)
    table = Table(title=f"{design}: rewards with 95 % intervals", title_justify="left")
    for name in heading:
        table.add_column(name, justify="left" if name in heading[:2] else "right")
    for row in body:
        table.add_row(*row)
    return table


def costs(results: Results) -> Table:
    """What designs take from honest players."""
    heading, *body = _cost_rows(results)
    table = Table(title="what honest players lose", title_justify="left", caption=COSTS)
    for name in heading:
        table.add_column(name)
    for row in body:
        table.add_row(*row)
    return table


def markdown_overview(results: Results) -> str:
    """The overview, one table a role."""
    parts: list[str] = []
    for role in ROLES:
        rows = [each for each in results.adversaries if each.role == role]
        if not rows:
            continue
        body = [
            [f"`{each.name}`", *(short(results.findings[each.name][d]) for d in results.designs)]
            for each in rows
        ]
        parts.append(markdown([role.capitalize(), *results.designs], body))
    return "\n".join(parts)


def markdown_costs(results: Results) -> str:
    """What honest players lose."""
    heading, *body = _cost_rows(results)
    return markdown(heading, body)


def page(results: Results, command: str) -> str:
    """Everything as one Markdown text."""
    lists = "\n".join(f"- {results.summary(name)}." for name in results.designs)
    parts = [f"# What cheating brings\n\n`{command}`\n\n{LEGEND}\n", markdown_overview(results)]
    parts.append(f"## Summary\n\n{lists}\n")
    parts.append(f"## What honest players lose\n\n{COSTS}\n\n{markdown_costs(results)}")
    for name in results.designs:
        heading, *body = _detail_rows(results, name)
        parts.append(f"## {name}\n\n{markdown(heading, body)}")
    return "\n".join(parts)


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def short(finding: Finding) -> str:
    """``"+.31 ▲"``; a difference that is small but certain keeps its sign, ``"-.00 ▽"``."""
    mean = finding.difference.mean
    text = signed(mean)
    if text == "0" and finding.verdict != "even":
        text = "+.00" if mean > 0 else "-.00"
    return f"{text} {MARKS[finding.verdict]}"


def _detail_rows(results: Results, design: str) -> list[list[str]]:
    rows = [
        ["role", "adversary", "cheat", "honest", "difference", "verdict", "most by",
         "to honest ones beside", "with fixed labels"]
    ]  # fmt: skip
    for each in results.adversaries:
        found = results.findings[each.name][design]
        fixed = found.fixed
        rows.append(
            [
                each.role,
                each.name,
                found.cheat.text(2),
                found.honest.text(2),
                found.difference.text(2, signed=True),
                f"{MARKS[found.verdict]} {found.verdict}",
                f"{found.reason[0]} {signed(found.reason[1])}" if found.reason[1] else "",
                signed(found.others.mean) if each.role != "coder" else "",
                f"{fixed.text(2, signed=True)} {MARKS[verdict(fixed)]}" if fixed else "",
            ]
        )
    return rows


def _cost_rows(results: Results) -> list[list[str]]:
    rows = [["design", *ROLES, "right pictures without a label"]]
    for name in results.designs:
        found = results.costs[name]
        cells: list[str] = []
        for role in ROLES:
            cost = found.get(role)
            taken = cost.charged if cost else {}
            cells.append(
                ", ".join(
                    f"{term} {share:.0%} ({signed(cost.terms[term])})"
                    for term, share in taken.items()
                    if cost
                )
                or "nothing"
            )
        coder = found.get("coder")
        share = coder.rejected if coder else None
        rows.append([name, *cells, "" if share is None else f"{share:.0%}"])
    return rows
