from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmzero_env.errors import UserError
from trainers import cli
from trainers.config import load, save
from trainers.report import watch


@pytest.fixture
def run(make_run) -> Path:
    folder = make_run()
    save(load("nano-cpu", {"out": str(folder), "iterations": "2"}), folder)
    (folder / "state").mkdir()
    return folder


def done(run: Path, *parts: str) -> None:
    (run / "state" / "progress.json").write_text(json.dumps({"done": parts}))


def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def touch(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "stage": "solver", "step": 0, "reward": 1}\n')


class Hand:
    """Does something at every pause of the watch, then ends it."""

    def __init__(self, *acts) -> None:
        self.acts, self.pauses = list(acts), []

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self.acts:
            raise KeyboardInterrupt
        self.acts.pop(0)()


def test_the_report_is_written_anew_when_the_run_has_changed_and_only_then(run) -> None:
    times = []

    def look() -> None:
        times.append(os.stat(run / "report.html").st_mtime_ns)
        assert 'data-refresh="5"' in page(run)

    hand = Hand(look, lambda: (look(), touch(run)), look)
    with pytest.raises(KeyboardInterrupt):
        watch.watch(run, 5, sleep=hand, clock=lambda: 0.0)
    assert times[0] == times[1] < times[2]
    # Stopped by Ctrl-C: nobody writes it anew any more, so the page need not look.
    assert "data-refresh" not in page(run) and 'http-equiv="refresh' not in page(run)


def test_watching_ends_with_the_run(run, capsys) -> None:
    hand = Hand(lambda: done(run, "0/probe", "1/probe"), lambda: done(run, "1/probe", "2/probe"))
    watch.watch(run, 5, sleep=hand, clock=lambda: 0.0)
    assert hand.acts == [] and "data-refresh" not in page(run)
    assert capsys.readouterr().out == f"the run is finished; report: {run / 'report.html'}\n"


def test_a_run_that_rolled_back_to_stop_is_finished(run) -> None:
    save(load("nano-cpu", {"out": str(run), "monitor.rollback": "stop"}), run)
    done(run, "0/probe", "1/proposer", "1/probe")
    rows = [
        {"iteration": 1, "stage": "coder", "step": s, "render_rate": 0.9 - 0.08 * s}
        for s in range(12)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert watch.finished(run)
    done(run, "0/probe", "1/probe", "2/proposer")
    assert not watch.finished(run)
    save(load("nano-cpu", {"out": str(run)}), run)
    done(run, "0/probe", "1/probe")
    assert not watch.finished(run)


@pytest.mark.parametrize("state", ["", "{", "[]", '{"done": 3}', '{"done": ["x/probe"]}'])
def test_a_state_that_cannot_be_read_is_no_end(run, state) -> None:
    (run / "state" / "progress.json").write_text(state)
    assert not watch.finished(run)


def test_writing_takes_a_tenth_of_the_time_at_most(run) -> None:
    ticks = iter(range(0, 1000, 3))
    hand = Hand()
    with pytest.raises(KeyboardInterrupt):
        watch.watch(run, 5, sleep=hand, clock=lambda: next(ticks))
    assert hand.pauses == [30]


def test_the_command_says_what_is_wrong_and_how_it_ended(run, capsys, monkeypatch) -> None:
    assert cli.main(["report", str(run), "--watch", "--interval", "0"]) == 2
    assert "--interval expects a positive number of seconds, got 0" in capsys.readouterr().err
    assert cli.main(["report", str(run / "absent"), "--watch"]) == 2
    assert "is not a directory" in capsys.readouterr().err
    monkeypatch.setattr(watch.time, "sleep", Hand())
    monkeypatch.setattr(watch.watch, "__kwdefaults__", {"sleep": Hand(), "clock": lambda: 0.0})
    assert cli.main(["report", str(run), "--watch"]) == 130
    assert "54 of 54 episodes" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing of a run"):
        watch.watch(run / "state", 5)
