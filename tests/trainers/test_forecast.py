from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.forecast import line, p_value


def test_a_straight_line_is_found_exactly_and_an_outlier_does_not_move_it() -> None:
    values = [0.9 - 0.02 * i for i in range(12)]
    assert line(values) == pytest.approx((0.9, 0.68))
    values[5] = 40.0
    assert line(values) == pytest.approx((0.9, 0.68), abs=0.02)


@pytest.mark.parametrize(("n", "p"), [(4, 1 / 24), (6, 1 / 720)])
def test_a_perfect_order_is_as_unlikely_as_one_of_all_orders(n: int, p: float) -> None:
    assert p_value(range(n), 1) == pytest.approx(p)
    assert p_value(range(n), -1) == 1.0


def test_equal_values_have_no_trend() -> None:
    assert p_value([0.5] * 8, 1) == p_value([0.5] * 8, -1) == 1.0
    assert line([0.5] * 8) == (0.5, 0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=12, unique=True))
def test_turning_a_series_upside_down_turns_its_trend(values: list[float]) -> None:
    mirrored = [-value for value in values]
    assert p_value(values, 1) == pytest.approx(p_value(mirrored, -1))
    start, end = line(values)
    assert line(mirrored) == pytest.approx((-start, -end))


def test_noise_without_a_trend_is_below_alpha_about_as_often_as_alpha() -> None:
    rng = np.random.default_rng(0)
    hits = sum(p_value(list(rng.normal(size=10)), 1) <= 0.05 for _ in range(600))
    assert 0.02 < hits / 600 < 0.08
