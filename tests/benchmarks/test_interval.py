import numpy as np
import pytest

from benchmarks.interval import over_items, over_seeds, over_seeds_and_items
from mmzero_env.errors import UserError


def test_students_interval_of_three_seeds():
    found = over_seeds([0.1, 0.2, 0.3])
    # t(0.975, 2) = 4.302653, s = 0.1.
    assert found.mean == pytest.approx(0.2)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert found.text() == ".200 [-.048, .448]"


def test_one_seed_has_no_interval():
    found = over_seeds([0.25])
    assert (found.low, found.high, found.n) == (0.25, 0.25, 1)
    assert found.text() == ".250"


def test_the_interval_covers_the_mean_in_about_95_of_100_samples():
    rng = np.random.default_rng(0)
    covered = [
        (i := over_seeds(list(rng.normal(1.0, 2.0, 4)))).low <= 1.0 <= i.high for _ in range(2000)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_the_bootstrap_of_a_share_is_near_the_normal_interval():
    scores = [1.0] * 300 + [0.0] * 100
    found = over_items(scores)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found.low == pytest.approx(0.75 - half, abs=0.01)
    assert found.high == pytest.approx(0.75 + half, abs=0.01)
    assert over_items(scores) == found


@pytest.mark.parametrize(("between_seeds", "between_items"), [(0.3, 0.2), (0.02, 1.0), (0.0, 0.5)])
def test_the_interval_over_seeds_and_items_covers_the_mean(between_seeds, between_items):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        seeds = rng.normal(0, between_seeds, (3, 1))
        items = rng.normal(0, between_items, (1, 60))
        found = over_seeds_and_items(seeds + items + rng.normal(0, 0.5, (3, 60)))
        covered.append(found.low <= 0 <= found.high)
    # Approximate for three seeds: Satterthwaite takes the parts of the variance for known.
    assert 0.91 <= np.mean(covered) <= 0.99


def test_one_seed_leaves_the_items():
    scores = np.array([[1.0, 0.0, 1.0, 1.0]])
    assert over_seeds_and_items(scores).high == over_seeds([1.0, 0.0, 1.0, 1.0]).high
    same = over_seeds_and_items(np.ones((3, 5)))
    assert (same.low, same.mean, same.high) == (1.0, 1.0, 1.0)


def test_scores_need_seeds_and_items():
    with pytest.raises(UserError, match="seeds by items"):
        over_seeds_and_items(np.ones(3))


@pytest.mark.parametrize("interval", [over_seeds, over_items])
def test_no_values_have_no_mean(interval):
    with pytest.raises(UserError, match="at least one value"):
        interval([])


def test_signed_values_show_their_sign():
    assert over_seeds([0.5]).text(2, signed=True) == "+.50"
    assert over_seeds([-0.5]).text(2, signed=True) == "-.50"
    assert over_seeds([12.0]).text(1) == "12.0"
