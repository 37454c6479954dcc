import json

import numpy as np
import pytest

from benchmarks import study_measures, study_plan
from benchmarks.command import run as bench
from benchmarks.provenance import RESULTS
from benchmarks.study_measures import ArmRuns
from mmzero_env.errors import UserError

TINY = """
preset = "nano-cpu"
seeds = [4]
iterations = 2

[settings]
threads = 1
"probe.items" = 5
"probe.samples" = 2
"proposer.steps" = 1
"proposer.prompts_per_step" = 8
"proposer.group_size" = 2
"proposer.codes" = 1
"proposer.answers" = 2
"coder.steps" = 1
"coder.prompts_per_step" = 2
"coder.pool" = 16
"coder.answers" = 2
"filters.render_low" = 0
"filters.render_high" = 1
"solver.steps" = 1
"solver.prompts_per_step" = 4
"solver.pool" = 16
"solver.answers" = 3
"solver.group_size" = 4

[quick]
seeds = [4]
iterations = 1
arms = ["told"]

[tables]
both = ["told", "solver_only"]
one = ["told"]

[arms.told]
about = "Learns from the truth."
zero_data = false
settings = { reward_design = "cycle_consistent", "reward.label_source" = "truth" }

[arms.solver_only]
settings = { "proposer.steps" = 0, "coder.steps" = 0, labels = "online" }
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(TINY)
    return path


def test_every_arm_of_the_plan_that_comes_along_is_a_run():
    for quick in (False, True):
        plan = study_plan.read_plan(study_plan.PLAN, quick=quick)
        assert {"mm_zero", "caption_grounded"} <= plan.arms.keys()
        assert len(plan.seeds) >= (1 if quick else 3)
    told = [arm.name for arm in study_plan.read_plan(study_plan.PLAN).arms.values()]
    assert len(told) == 13
    for arm in study_plan.read_plan(study_plan.PLAN).arms.values():
        assert arm.zero_data == ("truth" not in arm.settings.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [4]", "seeds = [4, 4]", r"seeds: .*each once.*\[4, 4\]"),
        ("iterations = 2", "iterations = 0", "iterations: expected a whole number from 1, got 0"),
        ('preset = "nano-cpu"', 'preset = "nano"', "'nano'.*'nano-cpu'"),
        ('labels = "online"', 'labels = "onlin"', "arm 'solver_only'.*'onlin'.*'online'"),
        ('labels = "online"', 'lables = "online"', "arm 'solver_only'.*'lables'.*'labels'"),
        ("about =", "abuot =", "key of the arm 'told' 'abuot'.*'about'"),
        ('one = ["told"]', 'one = ["tol"]', "arm 'tol'.*'told'"),
        ("[tables]", "[table]", "key of the plan 'table'.*'tables'"),
        ("[tables]", "[tables", "no TOML file"),
    ],
)
def test_a_plan_that_cannot_be_is_named_with_its_mend(plan, old, new, message):
    assert old in TINY
    plan.write_text(TINY.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        study_plan.read_plan(plan)


def test_what_is_asked_must_be_in_the_plan(plan, tmp_path):
    asked = ["study", "--plan", str(plan), "--out", str(tmp_path)]
    for more, message in (
        (["--arms", "tolt"], "arm 'tolt'.*'told'"),
        (["--table", "tow"], "table of the plan 'tow'.*both"),
        (["--workers", "0"], "--workers"),
        (["--quick", "--publish"], "--quick is too small"),
    ):
        with pytest.raises(UserError, match=message):
            bench([*asked, *more])


def test_a_study_is_trained_and_shown_and_goes_on_where_it_was(plan, tmp_path, capsys):
    asked = ["study", "--plan", str(plan), "--out", str(tmp_path / "out")]
    assert bench([*asked, "--table", "one"]) == 0
    assert "not finished: solver_only, 0 of 1 seeds" in capsys.readouterr().out
    assert bench(asked) == 0
    said = capsys.readouterr()
    assert "2 of 2" not in said.out and "1 of 2 were done before" in said.err
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    assert found["seeds"] == [4] and "--plan" in found["command"] and found["revision"]
    assert found["about"]["told"]["zero_data"] is False
    told = found["arms"]["told"]
    for metric in (
        "solver_easy_sampled", "solver_hard_sampled", "solver_hard_greedy", "coder_render",
        "coder_faithful", "proposer_valid", "proposer_own_answer", "silver_accuracy",
    ):  # fmt: skip
        assert len(told[metric]) == 3
        for each in told[metric]:
            assert each["low"] <= each["mean"] <= each["high"]
    # The truth is always true; votes of the picture are not.
    assert [each["mean"] for each in told["silver_accuracy"]] == [1.0, 1.0, 1.0]
    # The base is the same model in every arm, and a Proposer that is not trained stays.
    other = found["arms"]["solver_only"]
    assert other["solver_hard_sampled"][0] == told["solver_hard_sampled"][0]
    assert other["proposer_valid"][0]["mean"] == other["proposer_valid"][2]["mean"]
    assert other["trained_completions"][1]["mean"] < told["trained_completions"][1]["mean"]
    plan.write_text(TINY.replace('labels = "online"', 'labels = "fixed"'))
    with pytest.raises(UserError, match="solver_only/4 was trained with .*online.*fixed.*--out"):
        bench(asked)
    for name in ("study-both.svg", "study-strip-told.svg", "study-both.md"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    for name in ("study-strip-solver_only.svg", "study-one.svg"):
        assert not (tmp_path / "out" / name).exists()


def runs(*hard, silver):
    """Three seeds whose items have these scores by iteration, and silver labels."""
    rng = np.random.default_rng(0)
    cells, scores = [], []
    for _ in range(3):
        noise = rng.normal(0, 0.01, (len(hard), 40))
        each = np.clip(np.array(hard)[:, None] + noise, 0, 1)
        scores.append({"solver_hard_sampled": each, "coder_faithful": each})
        rows = [{"silver_accuracy": s + rng.normal(0, 0.005)} for s in silver]
        cells.append({"base": rows[0], "iterations": rows[1:], "strip": []})
    return ArmRuns(cells, scores)


def test_claims_hold_or_fail_by_what_was_measured():
    good = study_measures.claims(runs(0.6, 0.7, 0.8, silver=(0.9, 0.9, 0.9)))
    assert [claim.holds for claim in good] == [True, True, True, True]
    small = study_measures.claims(runs(0.6, 0.65, 0.7, silver=(0.9, 0.9, 0.7)))
    assert [claim.holds for claim in small] == [False, False, True, False]
    back = study_measures.claims(runs(0.6, 0.9, 0.8, silver=(0.9, 0.9, 0.9)))
    assert [claim.holds for claim in back] == [True, True, False, True]
    assert back[2].found.startswith("iteration 2 -.1")


def test_arms_are_compared_by_seed_and_item(monkeypatch):
    shown = {"solver_hard_sampled": "hard", "coder_faithful": "faithful"}
    monkeypatch.setattr(study_measures, "PROBE", shown)
    low = runs(0.6, 0.7, silver=(0.9, 0.9))
    high = ArmRuns(low.cells, [{n: each + 0.05 for n, each in s.items()} for s in low.scores])
    heading, line = study_measures.differences({"low": low, "high": high})
    assert heading == ["beyond low", "hard", "faithful"]
    # Items differ by .01 from each other, and not at all in what the arms differ by.
    assert line == ["high", *["+.050 [+.050, +.050]"] * 2]


def test_an_interval_of_a_share_stays_within_what_a_share_can_be():
    found = runs(0.6, 0.99, silver=(0.99, 0.6)).metric("silver_accuracy")
    assert all(0 <= each.low <= each.mean <= each.high <= 1 for each in found)


def test_the_page_is_held_to_the_published_results():
    page = (RESULTS.parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    found = json.loads((RESULTS / "study.json").read_text(encoding="utf-8"))
    assert f"`{found['command']}`" in page
    tables = sorted(RESULTS.glob("study-*.md"))
    assert RESULTS / "study-main.md" in tables
    for table in tables:
        for shown in table.read_text(encoding="utf-8").split("\n\n"):
            assert shown.strip() in page, table.name
    for arm, metrics in found["arms"].items():
        assert f"`{arm}`" in page
        lengths = {len(series) for series in metrics.values()}
        assert lengths == {found["settings"]["iterations"] + 1}
