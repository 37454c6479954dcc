import io
import json
import os
import time
from functools import partial

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


def test_a_failure_that_is_expected_lets_the_others_go_on_and_is_tried_again(tmp_path):
    def fails():
        raise KeyError("no")

    calls, shown = [], io.StringIO()
    cells = Cells(tmp_path, {})
    work = {"a": fails, "b": counting(calls, "b", 1)}
    found = cells.run(work, title="t", stream=shown, errors=(KeyError,))
    assert found == {"b": {"value": 1}} and str(cells.failed["a"]) == "'no'"
    assert "t 1/2: a FAILED after" in shown.getvalue()
    again = {"a": counting(calls, "a", 0), "b": counting(calls, "b", 1)}
    assert list(Cells(tmp_path, {}).run(again, title="t", stream=shown)) == ["a", "b"]
    assert calls == ["b", "a"]


def slow(seconds, fails=False):
    time.sleep(seconds)
    if fails:
        raise KeyError("no")
    return {"process": os.getpid()}


def test_cells_of_several_processes_are_kept_as_soon_as_they_are_done(tmp_path):
    work = {"slow": partial(slow, 3.0), "quick": partial(slow, 0.0)}
    shown = io.StringIO()
    found = Cells(tmp_path, {}).run(work, title="t", stream=shown, workers=2)
    assert list(found) == ["slow", "quick"]
    assert len({os.getpid(), *(cell["process"] for cell in found.values())}) == 3
    # In the order in which they were done, with their own time.
    keys = [json.loads(line).get("key") for line in (tmp_path / FILE).open()]
    assert keys == [None, "quick", "slow"]
    assert "t 1/2: quick in" in shown.getvalue()
    assert Cells(tmp_path, {}).seconds["quick"] < 1 < 3 <= Cells(tmp_path, {}).seconds["slow"]


def test_a_failure_in_one_of_several_processes_is_that_of_its_cell(tmp_path):
    work = {"bad": partial(slow, 0.0, fails=True), "good": partial(slow, 0.0)}
    cells = Cells(tmp_path, {})
    found = cells.run(work, title="t", stream=io.StringIO(), workers=2, errors=(KeyError,))
    assert list(found) == ["good"] and str(cells.failed["bad"]) == "'no'"
    with pytest.raises(KeyError):
        cells.run({**work, "more": work["good"]}, title="t", stream=io.StringIO(), workers=2)


def test_time_left_is_read_from_what_cells_are_thought_to_take(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("benchmarks.cells.time.monotonic", lambda: clock[0])

    def takes(seconds):
        def work():
            clock[0] += seconds
            return {}

        return work

    shown = io.StringIO()
    work = {"small": takes(2), "large": takes(60)}
    expected = {"small": 1.0, "large": 30.0}
    Cells(tmp_path, {}).run(work, title="t", stream=shown, expected=expected)
    assert "small in 2.0 s, about 1 min 0 s left" in shown.getvalue()


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
