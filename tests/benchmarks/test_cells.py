import io
import json

import pytest

from benchmarks.cells import FILE, Cells, duration, seeds_of
from mmzero_env.errors import UserError


def counting(calls, key, value):
    def work():
        calls.append(key)
        return {"value": value}

    return work


def test_a_second_call_does_only_what_is_missing(tmp_path):
    calls = []
    work = {key: counting(calls, key, n) for n, key in enumerate("abc")}
    Cells(tmp_path, {"steps": 3}).run({k: work[k] for k in "ab"}, title="t", stream=io.StringIO())
    shown = io.StringIO()
    found = Cells(tmp_path, {"steps": 3}).run(work, title="t", stream=shown)
    assert calls == ["a", "b", "c"]
    assert found == {"a": {"value": 0}, "b": {"value": 1}, "c": {"value": 2}}
    assert "2 of 3 were done before" in shown.getvalue()
    assert "t 3/3: c in" in shown.getvalue()


def test_a_failing_cell_leaves_the_finished_ones(tmp_path):
    def fails():
        raise RuntimeError("no")

    calls = []
    with pytest.raises(RuntimeError):
        Cells(tmp_path, {}).run(
            {"a": counting(calls, "a", 1), "b": fails}, title="t", stream=io.StringIO()
        )
    assert Cells(tmp_path, {}).done == {"a": {"value": 1}}


def test_a_torn_last_line_is_not_taken_for_a_cell(tmp_path):
    Cells(tmp_path, {}).run({"a": lambda: {"value": 1}}, title="t", stream=io.StringIO())
    with (tmp_path / FILE).open("a") as file:
        file.write('{"key": "b", "seco')
    cells = Cells(tmp_path, {})
    cells.run({"b": lambda: {"value": 2}}, title="t", stream=io.StringIO())
    assert Cells(tmp_path, {}).done == {"a": {"value": 1}, "b": {"value": 2}}
    assert all(json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())


def test_cells_of_other_settings_are_refused_by_the_name_of_what_differs(tmp_path):
    Cells(tmp_path, {"steps": 3, "seed": 0})
    with pytest.raises(UserError, match=r"other settings \(steps\).*another --out"):
        Cells(tmp_path, {"steps": 4, "seed": 0})


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / FILE).write_text("hello\n")
    with pytest.raises(UserError, match="no file of benchmark cells"):
        Cells(tmp_path, {})


def test_a_number_that_json_has_not_is_an_error_and_not_a_cell(tmp_path):
    with pytest.raises(ValueError):
        Cells(tmp_path, {}).run(
            {"a": lambda: {"value": float("nan")}}, title="t", stream=io.StringIO()
        )
    assert Cells(tmp_path, {}).done == {}


@pytest.mark.parametrize(("text", "seeds"), [("0", [0]), ("0,2", [0, 2]), ("1-3,7", [1, 2, 3, 7])])
def test_seeds_are_read(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,1", "3-1", "-1"])
def test_what_are_no_seeds_is_refused(text):
    with pytest.raises(UserError, match="expected seeds"):
        seeds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (42, "42 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")]
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text
