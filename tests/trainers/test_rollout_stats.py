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
