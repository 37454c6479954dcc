"""What resuming costs is charged to the stage in which it was spent."""

from __future__ import annotations

import time

import pytest

from benchmarks.resume_cost import Stopwatch, _lines


def test_a_part_is_charged_to_its_stage_every_time_it_runs():
    watch = Stopwatch()
    write = watch.timed("states", lambda seconds: time.sleep(seconds) or seconds)
    watch.stage(1, "proposer", 2)
    assert [write(0.02), write(0.03)] == [0.02, 0.03]
    watch.stage(1, "coder", 2)
    write(0.01)
    time.sleep(0.02)
    watch.close()
    proposer, coder = watch.spent["proposer"], watch.spent["coder"]
    assert proposer["states"][0] == pytest.approx(0.05, abs=0.02)
    assert proposer["stage"][0] >= proposer["states"][0]
    assert coder["stage"][0] >= coder["states"][0] + 0.02
    assert coder["states"][1] < 0.01  # sleeping takes no processor


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert _lines(path) == []
    path.write_text('{"step": 0}\n{"step": 1}\n{"ste')
    assert _lines(path) == ['{"step": 0}', '{"step": 1}']
