"""Occupancy of engines over time."""

from __future__ import annotations

import pytest

from trainers.rollout_stats import Occupancy, PolicyStats, RolloutStats


def test_occupancy_counts_gaps_and_overlaps() -> None:
    found = Occupancy.of([0.0, 1.0, 6.0], [4.0, 2.0, 10.0])
    assert (found.span, found.busy, found.most) == (10.0, 8.0, 2)
    assert found.mean == pytest.approx((4 + 1 + 4) / 10)


def test_a_request_that_opens_when_another_closes_does_not_overlap_it() -> None:
    assert Occupancy.of([0.0, 1.0], [1.0, 2.0]) == Occupancy(2.0, 2.0, 1.0, 1)


def test_nothing_asked_has_no_occupancy() -> None:
    assert Occupancy.of([], []) == Occupancy()


def test_metrics_are_seconds_by_the_roles_of_each_policy() -> None:
    asked = PolicyStats("p", ("coder", "solver"), 3, 6, None, Occupancy(10.0, 8.0, 0.9, 2))
    assert asked.busy_share == 0.8
    stats = RolloutStats(11.0, (asked,), 4, 1.5, 0.25)
    assert stats.requests == 3
    assert stats.metrics() == {
        "seconds_drawing": 1.5,
        "seconds_overhead": 0.25,
        "seconds_engine/coder+solver": 10.0,
        "seconds_engine_busy/coder+solver": 8.0,
    }


def test_parts_that_were_played_at_the_same_time_overlap_on_one_clock() -> None:
    def part(start: float, tokens: int | None) -> RolloutStats:
        opened, closed = (start, start + 1), (start + 2, start + 3)
        asked = PolicyStats(
            "p", ("coder",), 2, 4, tokens, Occupancy.of(opened, closed), (opened, closed)
        )
        return RolloutStats(3.0, (asked,), 2, 1.0, 0.25)

    whole = RolloutStats.merged([part(0.0, 5), part(1.0, 6).shifted(1.0)], seconds=6, overhead=0.5)
    assert (whole.seconds, whole.drawings, whole.seconds_drawing) == (6, 4, 2.0)
    assert whole.seconds_overhead == 1.0
    (asked,) = whole.policies
    assert (asked.requests, asked.completions, asked.tokens) == (4, 8, 11)
    assert (asked.occupancy.span, asked.occupancy.busy, asked.occupancy.most) == (5.0, 5.0, 2)
    untold = RolloutStats.merged([part(0.0, 5), part(0.0, None)], seconds=3, overhead=0.0)
    assert untold.policies[0].tokens is None
