from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.downstream.driver import asked, options
from benchmarks.downstream.sets import COLUMNS, SETS, SUITES, TASKS, chosen, local_copy
from mmzero_env.errors import UserError


def test_the_paper_has_twelve_sets_in_ten_columns() -> None:
    assert len(SUITES["paper"]) == 12 and len(COLUMNS) == 10
    assert [each.name for each in chosen("paper")] == list(SUITES["paper"])
    assert sum(each.column == "MMMU-Pro" for each in SETS.values()) == 3


def test_sets_are_chosen_by_name_each_once() -> None:
    assert [each.name for each in chosen("chartqa, mmsi")] == ["chartqa", "mmsi"]
    with pytest.raises(UserError, match="twice"):
        chosen("paper,mmmu")
    with pytest.raises(UserError, match="Did you mean 'chartqa'"):
        chosen("chartq")


def test_our_own_task_files_are_there_and_the_others_are_lmms_evals() -> None:
    ours = {each.name for each in SETS.values() if (TASKS / each.yaml).is_file()}
    assert ours == {"visnumbench", "mmzero-probe"}
    for each in SETS.values():
        order = each.order(data=None, limit=None)
        assert Path(order["yaml"]).is_absolute() == (each.name in ours)
        assert (
            f"task: {each.task}" in Path(order["yaml"]).read_text() if each.name in ours else True
        )


def test_a_local_copy_takes_the_place_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "mmmu-pro").mkdir()
    for name in ("mmmu-pro-4", "mmmu-pro-10", "mmmu-pro-vision"):
        assert local_copy(SETS[name], tmp_path) == tmp_path / "mmmu-pro"
    order = SETS["mmmu-pro-4"].order(data=tmp_path / "mmmu-pro", limit=3)
    assert order["changes"] == {
        "dataset_name": "standard (4 options)",
        "dataset_path": str(tmp_path / "mmmu-pro"),
    }
    assert local_copy(SETS["chartqa"], None) is None
    with pytest.raises(UserError, match="hf download lmms-lab-encoder/ChartQA"):
        local_copy(SETS["chartqa"], tmp_path)


def test_questions_are_asked_with_lettered_options_and_units() -> None:
    spec = SETS["mathvista"].order(data=None, limit=None)
    doc = {"question": "How long? ", "choices": ["1", "2"], "unit": "cm", "precision": 1.0}
    assert asked(doc, spec) == "How long? (Unit: cm) (Decimal places: 1)\nA. 1\nB. 2"
    doc = {"question": "How long?", "choices": None, "unit": None, "precision": None}
    assert asked(doc, spec) == "How long?"
    spec = SETS["mmmu"].order(data=None, limit=None)
    assert options({"options": "['a', \"b's\"]"}, spec) == ["a", "b's"]


def test_options_that_the_picture_shows_are_told_to_the_judge_only() -> None:
    spec = SETS["mmmu-pro-vision"].order(data=None, limit=None)
    doc = {"options": "['a', 'b']", "answer": "B"}
    assert asked(doc, spec) == "Answer the multiple-choice question in the picture."
    assert asked(doc, spec, whole=True).endswith("\nA. a\nB. b")


def test_the_table_of_the_documentation_is_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for each in SETS.values():
        for said in (each.task, each.repository, each.config, each.own or "needs a judge"):
            assert said in rows[each.name]
        assert f"({each.split})" in rows[each.name] or not each.repository
        assert ("lower bound" in rows[each.name]) == each.judged
