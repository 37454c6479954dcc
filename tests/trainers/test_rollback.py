from __future__ import annotations

import pytest

from trainers.monitor_config import MonitorConfig
from trainers.rollback import HEALTH, decide, health, origin

RETRY = MonitorConfig(rollback="retry")
GOOD = {
    "parsed": 0.9,
    "content_type_diversity": 0.8,
    "caption_diversity": 0.9,
    "answer_diversity": 0.7,
    "render_rate": 0.8,
    "label_agreement": 0.7,
}


def iteration(number: int, steps: int = 8, **ends: float):
    """Rows of three stages; what is named moves from its usual value to another."""
    rows = []
    for stage, names in HEALTH.items():
        for step in range(steps):
            done = step / (steps - 1)
            row = {"iteration": number, "stage": stage, "step": step}
            for name in names:
                row[name] = GOOD[name] + done * (ends.get(name, GOOD[name]) - GOOD[name])
            rows.append(row)
    return rows


def test_health_is_the_end_of_a_stage_and_that_of_the_base_the_beginning() -> None:
    rows = iteration(1, label_agreement=0.0)
    after, base = health(rows, 1), health(rows, 0)
    assert set(after) == {f"{stage} {name}" for stage, names in HEALTH.items() for name in names}
    assert after["solver label_agreement"] == pytest.approx(0.05)
    assert base["solver label_agreement"] == pytest.approx(0.65)
    assert health(rows, 2) == {}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_each_share_that_falls_far_sends_the_run_back_and_is_named(name: str) -> None:
    rows = [*iteration(1), *iteration(2, **{name: 0.2 * GOOD[name]})]
    assert decide(rows, RETRY, 1).action == "go_on"
    verdict = decide(rows, RETRY, 2)
    assert verdict.action == "back" and name in verdict.reason
    assert "iteration 2 has collapsed" in verdict.reason
    # Both the base and iteration 1 were well: the earlier of equals.
    assert verdict.best == 0
    assert decide(rows, MonitorConfig(rollback="stop"), 2).action == "stop"
    assert decide(rows, MonitorConfig(), 2).action == "go_on"


def test_a_small_loss_is_no_collapse() -> None:
    rows = [*iteration(1), *iteration(2, label_agreement=0.8 * GOOD["label_agreement"])]
    assert decide(rows, RETRY, 2).action == "go_on"
    strict = MonitorConfig(rollback="retry", collapse_drop=0.1)
    assert decide(rows, strict, 2).action == "back"


def test_the_best_iteration_is_the_one_with_the_largest_mean_share() -> None:
    rows = [*iteration(1, render_rate=0.95), *iteration(2), *iteration(3, parsed=0.1)]
    verdict = decide(rows, RETRY, 3)
    assert (verdict.action, verdict.best) == ("back", 1)
    assert "in iteration 1" in verdict.reason


def test_a_first_iteration_that_collapses_goes_back_to_the_base_model() -> None:
    rows = iteration(1, label_agreement=0.1)
    verdict = decide(rows, RETRY, 1)
    assert (verdict.action, verdict.best) == ("back", 0) and "base model" in verdict.reason
    assert origin(rows, RETRY, 2) == 0


def test_where_an_iteration_starts_follows_from_the_rows_before_it() -> None:
    rows = [*iteration(1, render_rate=0.95), *iteration(2, parsed=0.1), *iteration(3)]
    assert [origin(rows, RETRY, i) for i in (1, 2, 3, 4)] == [0, 1, 1, 3]
    assert [origin(rows, MonitorConfig(), i) for i in (1, 2, 3, 4)] == [0, 1, 2, 3]
    # What comes later changes nothing.
    assert origin([*rows, *iteration(4, parsed=0.0)], RETRY, 3) == 1


def test_stages_that_were_not_trained_have_no_part_in_it() -> None:
    solver = [row for row in iteration(2, label_agreement=0.1) if row["stage"] == "solver"]
    assert decide([*iteration(1), *solver], RETRY, 2).action == "back"
    coder = [row for row in iteration(2) if row["stage"] == "coder"]
    assert decide([*iteration(1), *coder], RETRY, 2).action == "go_on"
    assert decide([], RETRY, 1).action == "go_on"


def test_the_truth_is_never_looked_at() -> None:
    rows = [*iteration(1), *iteration(2)]
    for row in rows:
        row["answers_true"] = row["silver_accuracy"] = row["own_answer_true"] = (
            0.9 if row["iteration"] == 1 else 0.0
        )
    assert decide(rows, RETRY, 2).action == "go_on"
