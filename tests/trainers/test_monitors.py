"""Synthetic series: each warning fires on what it is for, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmzero_env.errors import UserError
from trainers.monitor_config import MonitorConfig
from trainers.monitors import Watch, warnings_of
from trainers.signals import SIGNALS, Signal

STEADY = {
    "consistency": 0.7,
    "answer_diversity": 0.7,
    "label_agreement": 0.75,
    "easy_agreement": 0.5,
    "sampled_entropy": 0.4,
    "completion_length": 30.0,
    "kl": 0.01,
    "content_type_diversity": 0.8,
    "caption_diversity": 0.9,
    "parsed": 0.95,
    "render_rate": 0.8,
    "blind_solvable": 0.2,
    "reward": 0.5,
}


def series(stage: str, steps: int, iteration: int = 1, noise: float = 0.0, **moves: float):
    """Rows in which some quantities move on a straight line and the others stay."""
    rng = np.random.default_rng(0)
    rows = []
    for step in range(steps):
        row = {"iteration": iteration, "stage": stage, "step": step}
        for name, value in STEADY.items():
            moved = value + moves.get(name, 0.0) * step / (steps - 1)
            row[name] = moved + noise * value * rng.normal()
        rows.append(row)
    return rows


def name_of(signal: Signal) -> str:
    return f"{signal.quantity}{signal.direction:+d}{'+' * bool(signal.beside)}"


@pytest.mark.parametrize("signal", SIGNALS, ids=name_of)
def test_each_signal_warns_of_its_own_trend_once_and_says_what_helps(signal: Signal) -> None:
    scale = STEADY[signal.quantity] if signal.relative else 1.0
    size = 1.5 * signal.least * scale * signal.direction
    stage = signal.stages[-1]
    moves = {signal.quantity: size} | dict.fromkeys(signal.beside[:1], -0.2)
    rows = series(stage, 12, **moves)
    if signal.increments:
        for row in rows:
            row["kl"] = 0.1 * (row["step"] / 11) ** 2
    found = [w for w in warnings_of(rows, MonitorConfig()) if w.quantity == signal.quantity]
    assert len(found) == 1
    (warning,) = found
    assert (warning.iteration, warning.stage) == (1, stage)
    assert warning.p is not None and warning.p <= MonitorConfig().alpha
    assert (warning.end - warning.start) * signal.direction > 0
    for part in (signal.quantity, f"step {warning.step}", "What usually helps", signal.helps):
        assert part in warning.text


@pytest.mark.parametrize("signal", SIGNALS, ids=name_of)
def test_no_signal_warns_of_the_opposite_of_a_small_or_of_a_foreign_trend(signal: Signal) -> None:
    scale = STEADY[signal.quantity] if signal.relative else 1.0
    size = signal.least * scale * signal.direction
    both = {s.direction for s in SIGNALS if s.quantity == signal.quantity}
    for factor in (0.5, -1.5):
        if factor < 0 and len(both) == 2:
            continue
        rows = series(signal.stages[-1], 12, **{signal.quantity: factor * size})
        assert warnings_of(rows, MonitorConfig()) == []
    if len(signal.stages) < 3:
        other = next(s for s in ("solver", "proposer") if s not in signal.stages)
        rows = series(other, 12, **{signal.quantity: 1.5 * size})
        assert warnings_of(rows, MonitorConfig()) == []


def test_agreement_and_certainty_alone_are_what_learning_looks_like() -> None:
    rows = series("solver", 20, consistency=0.25, sampled_entropy=-0.3, reward=0.2)
    assert warnings_of(rows, MonitorConfig()) == []
    rows = series("solver", 20, consistency=0.25, answer_diversity=-0.09)
    assert [w.quantity for w in warnings_of(rows, MonitorConfig())] == ["consistency"]


def test_a_kl_that_levels_off_is_no_acceleration_but_a_limit_holds_at_once() -> None:
    rows = series("solver", 12)
    for row in rows:
        row["kl"] = 0.15 * (1 - 0.7 ** row["step"])
    assert warnings_of(rows, MonitorConfig()) == []
    rows[3]["kl"] = 0.21
    (warning,) = warnings_of(rows, MonitorConfig())
    assert (warning.step, warning.steps, warning.p) == (3, 1, None)
    assert warnings_of(rows, replace(MonitorConfig(), kl_limit=0.0)) == []


def test_noise_rarely_warns() -> None:
    count = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = series("proposer", 20)
        for row in rows:
            for name, value in STEADY.items():
                row[name] = value * (1 + 0.05 * rng.normal())
        count += bool(warnings_of(rows, MonitorConfig()))
    assert count <= 2


def test_a_trend_across_stages_is_none() -> None:
    whole = series("solver", 10, label_agreement=-0.4)
    rows = [*whole[:5], *({**row, "iteration": 2} for row in whole[5:])]
    assert warnings_of(whole, MonitorConfig()) and warnings_of(rows, MonitorConfig()) == []


def test_metrics_that_are_missing_or_null_are_gaps() -> None:
    rows = series("solver", 24, blind_solvable=0.6)
    for row in rows:
        if row["step"] % 4:
            row["blind_solvable"] = None
    rows[1].pop("kl")
    (warning,) = warnings_of(rows, MonitorConfig())
    assert (warning.quantity, warning.step, warning.steps) == ("blind_solvable", 20, 6)


def test_a_watch_that_is_fed_the_rows_again_says_the_same_and_goes_on_alike() -> None:
    rows = series("solver", 14, label_agreement=-0.4, completion_length=-10.0)
    expected = warnings_of(rows, MonitorConfig())
    assert len(expected) == 2
    for cut in range(len(rows)):
        watch = Watch(MonitorConfig())
        again = [w for row in rows[:cut] for w in watch.add(row)]
        again += [w for row in rows[cut:] for w in watch.add(row)]
        assert again == expected


def test_warnings_can_be_switched_off() -> None:
    rows = series("solver", 14, label_agreement=-0.4)
    assert warnings_of(rows, replace(MonitorConfig(), warn=False)) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_least": 3}, "window_least must be from 4 to window=12, got 3"),
        ({"window": 5}, "window_least must be from 4 to window=5, got 6"),
        ({"alpha": 0.0}, "alpha must be between 0 and 1"),
        ({"collapse_drop": 1.0}, "collapse_drop must be between 0 and 1"),
        ({"kl_limit": -1.0}, "kl_limit must not be negative"),
        ({"blind_items": -1}, "blind_items must not be negative"),
        ({"blind_every": 0}, "blind_every must be at least 1"),
        ({"rollback": "retyr"}, "Did you mean 'retry'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        MonitorConfig(**settings)
