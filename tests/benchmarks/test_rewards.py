import json

import pytest

from benchmarks import reward_nano, rewards
from benchmarks.command import build_parser
from benchmarks.command import run as bench
from benchmarks.interval import over_seeds
from benchmarks.reward_choice import choose
from benchmarks.reward_measures import lines, rank_correlation, summarise
from mmzero_env.errors import UserError
from mmzero_env.rewards import DESIGNS

TINY = {
    **reward_nano.SETTINGS,
    "probe.items": "5",
    "probe.samples": "1",
    "proposer.steps": "1",
    "proposer.prompts_per_step": "4",
    "coder.steps": "1",
    "coder.pool": "16",
    "coder.prompts_per_step": "2",
    "solver.steps": "1",
    "solver.pool": "24",
    "solver.prompts_per_step": "4",
}


def test_all_registered_designs_take_part_unless_some_are_named(tmp_path):
    assert [each.name for each in choose(None, [])] == list(DESIGNS)
    (tmp_path / "bold.toml").write_text("[proposer]\ndifficulty = 2.0\n")
    chosen = choose("r_zero, mm_zero", [tmp_path / "bold.toml"])
    assert [each.name for each in chosen] == ["r_zero", "mm_zero", "bold"]
    assert chosen[2].design.proposer["difficulty"] == 2.0


def test_a_design_file_that_changes_has_another_key(tmp_path):
    path = tmp_path / "bold.toml"
    path.write_text("[proposer]\ndifficulty = 2.0\n")
    (first,) = choose("mm_zero", [path])[1:]
    path.write_text("[proposer]\ndifficulty = 3.0\n")
    assert choose("mm_zero", [path])[1].key != first.key
    assert choose("mm_zero", [])[0].key == choose("mm_zero,r_zero", [])[0].key


def test_designs_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'mm_zero'"):
        choose("mm_zer", [])
    path = tmp_path / "same.toml"
    path.write_text('name = "mm_zero"\n')
    with pytest.raises(UserError, match="two designs are named 'mm_zero'"):
        choose(None, [path])
    with pytest.raises(UserError, match=r"expects a \.toml file, got mm_zero"):
        build = build_parser().parse_args(["rewards", "--design", "mm_zero"])
        choose(build.designs, build.design)


def test_ranks_agree_oppose_or_say_nothing():
    assert rank_correlation([1, 2, 30], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert rank_correlation([3, 2, 1], [1, 2, 30]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2, 2], [0, 1, 0, 1]) == pytest.approx(0)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([], []) is None


def test_a_measure_that_a_seed_lacks_is_averaged_over_the_others():
    row = summarise([{"solver_gain": 0.1}, {"solver_gain": None}, {"solver_gain": 0.3}])
    assert row["solver_gain"] == over_seeds([0.1, 0.3])
    assert row["hack_rate"] is None
    shown = lines({"mm_zero": row})
    assert shown[1][1].startswith("+.200 [") and shown[1][-1] == "–"


def test_difficulty_is_paired_with_the_share_of_false_answers():
    proposal = {
        "content_type": "data_chart",
        "caption": "Bar chart: orange 5, green 7, red 1.",
        "easy_question": "What is the value of the green bar?",
        "easy_answer": "5",
        "hard_question": "How many bars are above 4?",
        "hard_answer": "4",
    }
    codes = [
        {"answers": {"hard": ["\\boxed{2}", "\\boxed{3}"]}},
        {"answers": {"hard": ["\\boxed{2}", "no box"]}},
        {"answers": {}},
    ]
    terms = {"solvability": 0.5, "difficulty": 0.25, "learnability": 0.5}
    record = {"proposal": proposal, "reward": {"value": 1.0, "terms": terms}, "codes": codes}
    senseless = {**record, "proposal": {**proposal, "hard_question": "Why?"}}
    unseen = {**record, "codes": codes[2:]}
    malformed = {**record, "proposal": None, "codes": []}
    pairs = reward_nano.difficulty([record, senseless, unseen, malformed])
    assert pairs == [(0.75, 0.5)]


def test_a_run_that_was_killed_goes_on_and_the_table_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reward_nano, "SETTINGS", TINY)
    begun = []

    class Killed(reward_nano.SilentProgress):
        def stage(self, iteration, name, steps, done=0):
            begun.append(name)
            if name == "coder" and begun.count("coder") == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(reward_nano, "SilentProgress", Killed)
    words = ["rewards", "--designs", "r_zero", "--seeds", "4", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        bench(words)
    assert bench(words) == 0
    assert begun == ["probe", "proposer", "coder", "coder", "solver", "probe"]
    result = json.loads((tmp_path / "rewards.json").read_text())
    nano = result["grounds"]["nano"]
    assert result["command"] == f"mmzero bench {' '.join(words)}" and result["seeds"] == [4]
    assert nano["table"]["r_zero"]["solver_gain"]["n"] == 1
    assert 0 <= nano["table"]["r_zero"]["diversity"]["mean"] <= 1
    # A run that was killed has no true cost.
    assert nano["table"]["r_zero"]["seconds"] is None
    assert "true Solver gain" in capsys.readouterr().out
    assert bench([*words, "--quick"]) == 0
    with pytest.raises(UserError, match="1 runs are missing"):
        bench([*words, "--quick", "--designs", "visplay"])
    assert rewards.NANO_SEEDS == "0-2"
