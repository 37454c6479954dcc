"""When a design is said to pay, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.hacks import tables
from benchmarks.hacks.adversary import chosen
from benchmarks.hacks.heatmap import heatmap
from benchmarks.hacks.verdicts import Cost, Finding, Results, verdict
from benchmarks.interval import Interval, over_seeds


def means(cheat: float, alone: float, others: float = 0.0, **more: Any) -> dict[str, Any]:
    rest = {"terms": {"render": cheat}, "alone_terms": {"render": alone}, "fixed": None}
    return {"cheat": cheat, "alone": alone, "others": others, **rest, **more}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.12, 0.11], "pays"),
        ([0.1, 0.1, 0.1], "pays"),
        ([-0.1, -0.12, -0.11], "costs"),
        ([0.5, -0.1, 0.2], "even"),
        ([0.3, 0.0], "even"),
        ([0.0, 0.0, 0.0], "even"),
    ],
)
def test_a_design_pays_only_if_the_whole_interval_is_above_nothing(values, expected) -> None:
    assert verdict(over_seeds(values)) == expected
    assert Finding.of([means(1 + value, 1) for value in values]).verdict == expected


def test_one_seed_gives_no_verdict() -> None:
    with pytest.raises(ValueError, match="one seed gives no interval"):
        verdict(Interval(1, 1, 1, 1))


def test_sums_in_another_order_are_no_difference() -> None:
    found = Finding.of([means(0.1 + 0.2, 0.3), means(0.1 + 0.2, 0.3)])
    assert 0.1 + 0.2 != 0.3 and found.verdict == "even"


def test_the_difference_is_to_honest_players_beside_the_cheats() -> None:
    found = Finding.of([means(0.9, 0.8, -0.5), means(0.9, 0.8, -0.7)])
    assert found.honest.mean == pytest.approx(0.2)
    assert found.difference.mean == pytest.approx(0.7)
    assert found.others.mean == pytest.approx(-0.6)
    assert found.verdict == "even"  # two seeds that far apart say little


def test_the_term_that_differs_most_is_named() -> None:
    seed = means(1, 0)
    seed["terms"], seed["alone_terms"] = {"render": 1.0, "no_code": -0.4}, {"solvability": 0.9}
    assert Finding.of([seed, seed]).reason == ("render", pytest.approx(1.0))


def test_costs_are_weighed_by_plays() -> None:
    def seed(n: int, share: float, reward: float) -> dict[str, Any]:
        return {
            "n": n, "reward": reward, "terms": {"leak": -share, "render": 1.0},
            "charged": {"leak": share, "render": 0.0}, "rejected": share,
        }  # fmt: skip

    cost = Cost.of([seed(30, 0.0, 1.0), seed(10, 0.4, 0.6)])
    assert cost.charged == {"leak": pytest.approx(0.1)}
    assert cost.terms["leak"] == pytest.approx(-0.1) and cost.rejected == pytest.approx(0.1)
    assert cost.reward.mean == pytest.approx(0.8)


@pytest.fixture
def results() -> Results:
    adversaries = chosen(["coin_flip", "blank_picture", "constant_answer"])
    pays, even, costs = (
        [means(1 + gap - 0.002, 1), means(1 + gap + 0.002, 1)] for gap in (0.3, 0.0, -0.3)
    )
    solver = [means(1.3, 1, -0.2, fixed=-0.4), means(1.3, 1, -0.2, fixed=-0.41)]
    findings = {
        "coin_flip": {"a": Finding.of(pays), "b": Finding.of(even)},
        "blank_picture": {"a": Finding.of(costs), "b": Finding.of(costs)},
        "constant_answer": {"a": Finding.of(solver), "b": Finding.of(costs)},
    }
    honest = {
        "n": 5, "reward": 1.0, "terms": {"diversity": -0.1}, "charged": {"diversity": 0.2},
        "rejected": None,
    }  # fmt: skip
    drawn = {**honest, "charged": {}, "rejected": 0.125}
    costs_of = {
        name: {"proposer": Cost.of([honest] * 2), "coder": Cost.of([drawn] * 2)} for name in "ab"
    }
    return Results(adversaries, ["a", "b"], findings, costs_of)  # type: ignore


def test_a_summary_counts_who_is_paid(results: Results) -> None:
    assert [each.name for each in results.paid("a")] == ["coin_flip", "constant_answer"]
    assert results.paid("a", fixed=True) == results.paid("b") == []
    assert results.summary("a") == (
        "a: pays 2 of 3 (proposer coin_flip; solver constant_answer); with fixed labels 0 "
        "Solver's instead of 1; 12% of the right honest pictures give no label"
    )
    assert results.summary("b").startswith("b: pays 0 of 3; 12%")
    summary = results.as_json()["summary"]["a"]
    assert summary["paid"] == ["coin_flip", "constant_answer"] and summary["of"] == 3
    adversary = results.as_json()["adversaries"]["constant_answer"]
    assert adversary["designs"]["a"]["fixed_labels"]["verdict"] == "costs"


def test_tables_say_what_was_found(results: Results) -> None:
    text = tables.page(results, "mmzero bench hacks")
    assert "| `coin_flip` | +.30 ▲ | 0 · |" in text
    assert "| `constant_answer` | +.50 ▲ | -.30 ▽ |" in text
    assert "| a | diversity 20% (-.10) | nothing | nothing | 12% |" in text
    assert tables.signed(-0.001) == "0" and tables.signed(-2.145) == "-2.15"
    surely = Finding.of([means(0.999, 1), means(0.9991, 1)])
    assert tables.short(surely) == "-.00 ▽"
    assert tables.overview(results).row_count == 6
    assert tables.details(results, "a").row_count == 3
    assert tables.costs(results).row_count == 2


def test_the_heat_map_holds_every_cell_and_is_the_same_again(results: Results) -> None:
    drawn = heatmap(results)
    assert drawn == heatmap(results)
    for text in ("coder: blank_picture", "+.50 ▲", "-.30 ▽"):
        assert text in drawn
