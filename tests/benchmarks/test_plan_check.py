from __future__ import annotations

import pytest

from benchmarks.plan_check import check


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("rank", [0, 16])
def test_the_plan_of_the_nano_model_is_what_a_real_step_takes(rank: int, checkpointing: bool):
    found = check(rank, checkpointing=checkpointing)
    wrong = [f"{c.part}: {c.predicted} planned, {c.measured} measured" for c in found if not c.ok]
    assert not wrong
    exact = {"parameters", "weights", "gradients", "AdamW", "key-value"}
    assert {c.part.split()[0] for c in found if c.bound == 0} == exact
    # Measured at all: a hook that never ran would leave zeros.
    assert all(c.measured > 10_000 for c in found)
