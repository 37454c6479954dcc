from __future__ import annotations

from itertools import combinations

import pytest

from benchmarks.downstream.passes import Graded, change, pass_at
from benchmarks.downstream.scoring import Verdict
from mmzero_env.errors import UserError


def graded(*rows: str, items: tuple[int, ...] | None = None) -> Graded:
    """Rows of ``"1"`` right, ``"0"`` wrong, ``"f"`` failed."""
    verdicts = tuple(
        tuple(Verdict(c == "1", c, "failed" if c == "f" else "answered") for c in row)
        for row in rows
    )
    return Graded(items or tuple(range(len(rows))), verdicts)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer() -> None:
    for n, right, k in ((8, 3, 1), (8, 3, 4), (10, 1, 8), (8, 0, 8), (8, 8, 1)):
        answers = [True] * right + [False] * (n - right)
        subsets = list(combinations(answers, k))
        assert pass_at(k, n, right) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(UserError, match="at least 8"):
        pass_at(8, 4, 1)


def test_failures_stay_in_the_denominator() -> None:
    found = graded("1f", "ff", "10").summary()
    assert found["pass@1"]["mean"] == pytest.approx(2 / 6) and found["pass@1"]["n"] == 3
    assert found["answers"] == {"answered": 3, "no box": 0, "empty": 0, "failed": 3}
    assert "pass@8" not in found


def test_a_set_that_is_all_right_has_an_interval_with_a_width() -> None:
    found = graded(*["1" * 8] * 16).summary()
    assert found["pass@8"]["mean"] == 1 and found["pass@8"]["low"] < 0.9


def test_changes_are_paired_by_item() -> None:
    before, after = graded("0", "1", "0", "1"), graded("1", "1", "1", "1")
    found = change(before, after)["pass@1"]
    assert found["mean"] == 0.5 and 0 <= found["low"] < 0.5 < found["high"]
    # Nothing changed on four items, which says little about others.
    assert change(after, after)["pass@1"] == {"mean": 0.0, "low": -0.75, "high": 0.75, "n": 4}
    with pytest.raises(UserError, match="same items"):
        change(before, graded("1", "1", "1", "1", items=(0, 1, 2, 4)))
