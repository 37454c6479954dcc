import json

import pytest

from benchmarks import reward_nano, rewards, simulated_world
from benchmarks.command import build_parser
from benchmarks.command import run as bench
from benchmarks.interval import over_seeds
from benchmarks.reward_choice import choose
from benchmarks.reward_measures import (
    MEASURES,
    last_of,
    lines,
    mean_of,
    summarise,
)
from benchmarks.simulated_world import Settings
from mmzero_env.errors import UserError
from mmzero_env.rewards import DESIGNS
from trainers.correlation import rank_correlation

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
    first, *others = DESIGNS
    everything = [first, f"{first}, Proposer untrained", *others]
    assert [each.name for each in choose(None, [])] == everything
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


def test_the_end_of_a_run_is_its_last_third_and_gaps_are_left_out():
    assert last_of([9, 9, 9, 9, 1, 3]) == 2 and last_of([5.0]) == 5 and last_of([]) is None
    assert last_of([9, 9, 9, 9, None, 3]) == 3
    assert mean_of([1, None, 2]) == 1.5 and mean_of([None]) is None


def test_a_measure_that_a_seed_lacks_is_averaged_over_the_others():
    row = summarise([{"solver_gain": x} for x in (0.1, None, 0.3)], MEASURES)
    assert row["solver_gain"] == over_seeds([0.1, 0.3])
    assert row["hack_rate"] is None
    shown = lines({"mm_zero": row}, MEASURES)
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
    words = [
        "rewards",
        "--designs",
        "r_zero",
        "--ground",
        "nano",
        "--seeds",
        "4",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(KeyboardInterrupt):
        bench(words)
    assert bench(words) == 0
    assert begun == ["probe", "proposer", "coder", "coder", "solver", "probe"]
    result = json.loads((tmp_path / "rewards.json").read_text())
    nano = result["grounds"]["nano"]
    assert nano["command"] == f"mmzero bench {' '.join(words)}" and nano["seeds"] == [4]
    assert nano["table"]["r_zero"]["solver_gain"]["n"] == 1
    assert 0 <= nano["table"]["r_zero"]["diversity"]["mean"] <= 1
    # A run that was killed has no true cost.
    assert nano["table"]["r_zero"]["seconds"] is None
    assert "true Solver gain" in capsys.readouterr().out
    assert bench([*words, "--quick"]) == 0
    with pytest.raises(UserError, match="1 runs are missing"):
        bench([*words, "--quick", "--designs", "visplay"])


def test_the_simulated_ground_is_resumed_and_published_beside_the_other(tmp_path, monkeypatch):
    tiny = Settings(rounds=2, proposals=16, coder=6, solver=6)
    monkeypatch.setattr(simulated_world, "FULL", tiny)
    monkeypatch.setattr(rewards, "RESULTS", tmp_path / "published")
    (tmp_path / "published").mkdir()
    kept = {"grounds": {"nano": {"seeds": [7]}}}
    (tmp_path / "published" / "rewards.json").write_text(json.dumps(kept))
    path = tmp_path / "bold.toml"
    path.write_text("[proposer]\ndifficulty = 2.0\n")
    words = ["rewards", "--ground", "simulated", "--seeds", "0,1", "--out", str(tmp_path / "out")]
    bench([*words, "--designs", "mm_zero"])
    done = (tmp_path / "out" / "simulated" / "cells.jsonl").read_text()
    bench([*words, "--designs", "mm_zero", "--design", str(path), "--publish"])
    assert (tmp_path / "out" / "simulated" / "cells.jsonl").read_text().startswith(done)
    for folder in (tmp_path / "out", tmp_path / "published"):
        result = json.loads((folder / "rewards.json").read_text())["grounds"]["simulated"]
        assert list(result["table"]) == ["mm_zero", "bold"]
        assert result["table"]["bold"]["solver_gain"]["n"] == 2
        assert result["designs"]["bold"]["proposer"]["difficulty"] == 2.0
        assert result["details"]["bold"]["hack_coder"]["mean"] > 0
        assert "bold" in (folder / "rewards-simulated.md").read_text()
        for name in ("rewards-simulated.svg", "rewards-simulated-curves.svg"):
            assert "bold" in (folder / name).read_text()
    published = json.loads((tmp_path / "published" / "rewards.json").read_text())
    assert published["grounds"]["nano"] == {"seeds": [7]}


def test_workers_find_what_one_process_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(
        simulated_world, "QUICK", Settings(rounds=1, proposals=16, coder=2, solver=2)
    )
    found = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        words = ["rewards", "--quick", "--ground", "simulated", "--designs", "r_zero"]
        bench([*words, "--seeds", "0,1", "--workers", workers, "--out", str(out)])
        cells = json.loads((out / "rewards.json").read_text())["grounds"]["simulated"]["cells"]
        found.append([{k: v for k, v in c.items() if k != "seconds"} for c in cells.values()])
    assert found[0] == found[1] and found[0][0] != found[0][1]


def test_what_cannot_be_asked_for_is_said(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    with pytest.raises(UserError, match="too small to be published"):
        bench(["rewards", "--quick", "--publish", *out])
    with pytest.raises(UserError, match="--workers must be at least 1, got 0"):
        bench(["rewards", "--workers", "0", *out])
