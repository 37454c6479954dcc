from __future__ import annotations

import json
import math
import re

import pytest

from trainers import report
from trainers.report import accuracy, charts, spacing
from trainers.report.run_data import Estimate, MetricRow


def test_the_interval_of_a_change_is_newcombes() -> None:
    # Wilson intervals of 56/70 and 48/80; the published answer of method 10 is
    # .0524 to .3339 (Newcombe 1998, Table II, column a).
    after = Estimate(56 / 70, *wilson(56, 70), 70)
    before = Estimate(48 / 80, *wilson(48, 80), 80)
    change = accuracy.unpaired(before, after)
    assert change.delta == pytest.approx(0.2)
    assert change.low == pytest.approx(0.0524, abs=5e-5)
    assert change.high == pytest.approx(0.3339, abs=5e-5)
    assert change.verdict == "up"
    assert accuracy.unpaired(after, before).verdict == "down"
    assert accuracy.unpaired(before, before).verdict == "same"


def test_a_paired_change_is_taken_where_the_probe_kept_it(make_run) -> None:
    run = make_run()
    probe = json.loads((run / "probe.json").read_text())
    none = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 300}
    paired = {"mean": -0.004, "low": -0.007, "high": -0.001, "n": 300}
    probe["change"] = {"proposer_valid": [none, none, paired]}
    (run / "probe.json").write_text(json.dumps(probe))
    data = report.load(run)
    assert data.probe is not None
    verdicts = {row.metric: row.change and row.change.verdict for row in accuracy.rows(data.probe)}
    assert verdicts == {
        "proposer_valid": "down",
        "coder_render_rate": "down",
        "solver_easy_sampled": "up",
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    z = 1.959964
    centre, spread = 2 * hits + z * z, z * math.sqrt(z * z + 4 * hits * (1 - hits / n))
    return (centre - spread) / (2 * (n + z * z)), (centre + spread) / (2 * (n + z * z))


def test_a_few_are_evenly_spaced_and_any_beginning_of_them_is_too() -> None:
    ranking = list(range(101))
    assert spacing.evenly(ranking, 5) == [0, 25, 50, 75, 100]
    assert spacing.evenly(ranking, 1) == [0]
    assert spacing.evenly([7, 8], 3) == [7, 8]
    assert spacing.spread(ranking, 5) == [0, 100, 50, 25, 75]
    assert sorted(spacing.spread(ranking, 16)) == spacing.evenly(ranking, 16)
    assert spacing.spread([], 3) == [] and spacing.spread([4], 3) == [4]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (-0.3, 0.3, [-0.2, 0.0, 0.2]),
        (1e-5, 9e-5, [2.5e-5, 5e-5, 7.5e-5]),
        (980.0, 1010.0, [980.0, 990.0, 1000.0, 1010.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_numbers_are_short() -> None:
    shown = [charts.number(v) for v in (0.0, 0.5, -0.125, 12.0, 1234.0, 3.2e-7, 2.5e6)]
    assert shown == ["0", "0.5", "-0.125", "12", "1234", "3.2e-7", "2.5e6"]


def test_a_long_curve_is_thinned_without_losing_its_mean() -> None:
    rows = [MetricRow(1, "coder", n, {"reward": float(n % 10)}) for n in range(5000)]
    chart = charts.by_step(rows, "coder", "reward")
    assert chart is not None
    assert chart.summary == "Mean by iteration: iteration 1 4.5."
    points = re.search(r'points="([^"]+)"', chart.svg)
    assert points is not None and 300 < len(points[1].split()) <= charts.MAX_POINTS
    assert charts.by_step(rows, "coder", "absent") is None
    assert charts.by_step(rows, "solver", "reward") is None


def test_many_iterations_are_drawn_as_one_line_of_their_means() -> None:
    rows = [MetricRow(i, "coder", s, {"reward": i + s}) for i in range(1, 301) for s in range(4)]
    chart = charts.by_step(rows, "coder", "reward")
    assert chart is not None and len(chart.svg) < 10_000
    assert 'class="thin"' not in chart.svg and chart.svg.count('class="line"') == 1
    assert chart.summary.startswith("Mean by iteration: iteration 1 2.5, iteration 28")
    estimates = [Estimate(0.5, 0.4, 0.6, 10)] * 300
    drawn = charts.by_iteration("x", range(300), estimates)
    assert drawn.svg.count('class="whisker"') == charts.MANY


def test_a_name_cannot_leave_the_label_of_a_chart() -> None:
    frame = charts.Frame(1, 0, 1)
    assert '"><script>' not in frame.svg("x", '"><script>')
