"""The rows of real runs, replayed: those that collapsed on purpose and those that did not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.collapse import RESULTS, RUNS, Alarms, Run, Turn, figure, keep, markdown, table
from trainers.monitor_config import MonitorConfig
from trainers.monitors import warnings_of
from trainers.rollback import decide


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [Run.read(path) for path in sorted(RESULTS.glob("*-*.json"))]


def test_every_kind_was_run_with_three_seeds_or_more(runs) -> None:
    for kind in RUNS:
        assert len([run for run in runs if run.kind == kind]) >= 3


def test_runs_that_collapse_are_warned_of_before_the_truth_turns_down_visibly(runs) -> None:
    for run in (run for run in runs if RUNS[run.kind].collapses):
        kind = RUNS[run.kind]
        assert run.probe[kind.probe][-1] < run.probe[kind.probe][0] - 0.1
        turn = run.turn(kind.truth or "reward")
        assert run.warnings and turn is not None
        assert run.warnings[0].step < turn.down, run


def test_healthy_runs_are_left_in_peace_but_for_one_stage_in_twenty(runs) -> None:
    alarms = Alarms.of(runs)
    assert alarms.runs >= 3 and alarms.stages == 6 * alarms.runs
    assert alarms.loud <= alarms.stages / 20, alarms.text()
    for run in (run for run in runs if not RUNS[run.kind].collapses):
        for iteration in (1, 2):
            assert decide(run.rows, MonitorConfig(rollback="retry"), iteration).action == "go_on"


def test_the_truth_in_the_rows_changes_no_warning_and_no_verdict(runs) -> None:
    truths = ("answers_true", "silver_accuracy", "own_answer_true")
    for run in runs:
        blind = [{k: v for k, v in row.items() if k not in truths} for row in run.rows]
        assert warnings_of(blind, MonitorConfig()) == run.warnings
        for config in (MonitorConfig(rollback="retry"), MonitorConfig(rollback="stop")):
            assert decide(blind, config, 1) == decide(run.rows, config, 1)


def test_the_written_table_is_that_of_the_kept_runs(runs) -> None:
    written = (RESULTS / "table.md").read_text()
    assert written == f"{markdown(table(runs))}\n{Alarms.of(runs).text()}\n"
    assert (RESULTS / "collapse.svg").read_text() == figure(runs)


def test_a_downturn_is_the_fall_after_the_peak_and_noise_has_none() -> None:
    rise_and_fall = [0.5 + 0.02 * i for i in range(15)] + [0.78 - 0.05 * i for i in range(10)]
    turn = Turn.of(rise_and_fall)
    assert turn is not None and turn.peak in (13, 14, 15) and 14 < turn.down <= 19
    assert Turn.of([0.5 + 0.01 * i for i in range(25)]) is None
    rng = np.random.default_rng(0)
    assert sum(Turn.of(list(0.6 + 0.04 * rng.normal(size=25))) is not None for _ in range(60)) <= 4


def test_what_is_kept_of_a_run_can_be_read_again_without_times(tmp_path) -> None:
    row = {"iteration": 1, "stage": "solver", "step": 0, "reward": 0.123456789, "kl": 0.5}
    times = {"seconds_train": 1.0, "reward/accuracy": 0.2}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({**row, **times, "answers_true": None}))
    probe = {"iterations": [0], "metrics": {"solver_hard_sampled": [{"mean": 0.7123456}]}}
    (tmp_path / "probe.json").write_text(json.dumps(probe))
    run = Run.read(keep(tmp_path, "stride", 7, tmp_path))
    assert (run.kind, run.seed, run.probe) == ("stride", 7, {"solver_hard_sampled": [0.71235]})
    assert run.rows == [{**row, "reward": 0.12346, "answers_true": None}]


def test_without_the_limit_the_trends_alone_come_later(runs) -> None:
    config = replace(MonitorConfig(), kl_limit=0.0)
    for run in (run for run in runs if RUNS[run.kind].collapses):
        later = warnings_of(run.rows, config)
        assert all(warning.p is not None for warning in later)
        if later:
            assert later[0].step >= run.warnings[0].step
