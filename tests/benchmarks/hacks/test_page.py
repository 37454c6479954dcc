"""The page in the documentation: its tables are those of the results, its example runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.hacks import adversary as registry
from benchmarks.provenance import RESULTS

PAGE = (Path(__file__).parents[3] / "docs" / "bench-hacks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["hacks", "hacks-nano"])
def test_the_tables_of_the_page_are_those_of_the_results(name: str) -> None:
    written = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    overview = written[written.index("| Proposer |") : written.index("## Summary")].strip()
    assert overview in PAGE
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert f"`{result['command']}`" in PAGE
    for design, summary in result["summary"].items():
        assert f"- {design}: pays {len(summary['paid'])} of {summary['of']}" in written


def test_the_example_of_the_page_is_an_adversary(monkeypatch) -> None:
    monkeypatch.setattr(registry, "ADVERSARIES", dict(registry.ADVERSARIES))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "bench-hacks.md", "exec"), {})
    (found,) = registry.chosen(["upside_down"])
    assert found.role == "coder" and found.title == "The right picture upside down."
