from __future__ import annotations

import io
import time

import pytest

from trainers import progress
from trainers.progress import BarProgress, LineProgress, SilentProgress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(shown: progress.Progress) -> None:
    """Two iterations of two stages with two steps each."""
    shown.start(2, ["coder", "solver"])
    for iteration in (1, 2):
        for stage in ("coder", "solver"):
            shown.stage(iteration, stage, 2)
            shown.step({"reward": 0.25})
            shown.step({"reward": -0.5})
        shown.note(f"[bold]after {iteration}[/bold]")
    shown.close()
    shown.close()


def test_the_form_follows_the_stream() -> None:
    assert isinstance(progress.choose(stream=Terminal()), BarProgress)
    assert isinstance(progress.choose(stream=io.StringIO()), LineProgress)
    assert isinstance(progress.choose(quiet=True, stream=Terminal()), SilentProgress)


def test_lines_show_stage_step_reward_and_time_left() -> None:
    stream = io.StringIO()
    play(LineProgress(stream, every=0.0))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "iteration 1/2 coder: 2 steps"
    assert lines[1] == "  coder 1/2  reward +0.250  elapsed 0:00  left 0:00"
    assert lines[2].startswith("  coder 2/2  reward -0.500")
    assert "[bold]after 1[/bold]" in lines
    assert len(lines) == 4 * 3 + 2


def test_lines_are_few_when_steps_are_fast_and_the_last_step_is_always_told() -> None:
    stream = io.StringIO()
    shown = LineProgress(stream, every=60.0)
    shown.start(1, ["coder"])
    shown.stage(1, "coder", 500)
    for _ in range(500):
        shown.step()
    assert len(stream.getvalue().splitlines()) == 2
    assert "coder 500/500" in stream.getvalue()


def test_bars_show_the_same_and_keep_model_text_as_it_is() -> None:
    stream = Terminal()
    play(BarProgress(stream))
    text = stream.getvalue()
    assert "[bold]after 2[/bold]" in text
    assert "iteration 2/2" in text and "solver" in text and "reward -0.500" in text
    assert "left" in text


def test_time_left_of_the_run_counts_the_stages_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = LineProgress(stream, every=0.0)
    shown.start(2, ["coder", "solver"])
    shown.stage(1, "coder", 10)
    now[0] = 10.0
    shown.step()
    # 90 s of this stage, then solver, coder, solver at 100 s each for want of better.
    assert stream.getvalue().endswith(f"left {duration(90 + 300)}\n")
    now[0] = 100.0
    shown.stage(1, "solver", 2)
    now[0] = 110.0
    shown.step()
    # 10 s of this stage; ahead a coder stage of 100 s and a solver stage of 20 s.
    assert stream.getvalue().endswith(f"left {duration(10 + 100 + 20)}\n")


def test_the_base_measurement_comes_before_the_first_iteration(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = LineProgress(stream, every=0.0)
    shown.start(2, ["coder", "probe"])
    shown.stage(0, "probe", 1)
    now[0] = 5.0
    shown.step()
    assert stream.getvalue().startswith("base probe: 1 step\n")
    # All four stages are ahead, at 5 s each for want of better.
    assert stream.getvalue().endswith("left 0:20\n")


def test_a_resumed_run_counts_only_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = LineProgress(stream, every=0.0)
    shown.start(3, ["coder", "solver"], first=3)
    shown.stage(3, "solver", 4)
    now[0] = 1.0
    shown.step()
    assert "iteration 3/3 solver" in stream.getvalue()
    assert stream.getvalue().endswith("left 0:03\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.4, "0:00"), (65, "1:05"), (3725, "1:02:05")]
)
def test_durations_read_as_clocks(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
