from __future__ import annotations

import json

import pytest

import agents
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.protocol import ROLES
from mmzero_env.record import convert, read_records
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design
from trainers import cli
from trainers.progress import SilentProgress
from trainers.report import gallery
from trainers.report.scan import Scanner
from trainers.rollout import collect
from trainers.run_log import RunLog

DESIGN = get_design("mm_zero", allowed_type_share=0.1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The episodes of a run: two stages, of which the first wrote two batches."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    log = RunLog(folder, SilentProgress())
    policies = dict.fromkeys(ROLES, agents.make("scripted:noisy?skill=0.6"))
    config = EpisodeConfig(codes=2, answers=3, prompts="nano")
    with Renderer(48, workers=1) as renderer:
        for stage, step in (("proposer", 0), ("proposer", 1), ("solver", 0)):
            names = [f"i1/{stage}/{step}/{n}" for n in range(4)]
            episodes = [Episode(name, "map", n, config) for n, name in enumerate(names)]
            rollouts = collect(episodes, policies, renderer)
            rewards = DESIGN.score([rollout.outcome for rollout in rollouts])
            log.episodes(1, stage, episodes, rewards, DESIGN, renderer)
    return folder


@pytest.fixture
def run(original, tmp_path):
    """A copy of it that a test may damage."""
    (tmp_path / "episodes").mkdir()
    for file in (original / "episodes").iterdir():
        (tmp_path / "episodes" / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_run_records_what_a_replay_needs(run):
    records = list(read_records(run / "episodes" / "iter-1-proposer.jsonl"))
    assert [r["batch"] for r in records] == ["i1/proposer/0/0"] * 4 + ["i1/proposer/1/0"] * 4
    assert [r["population"] for r in records] == [4] * 8
    assert [r["seed"] for r in records] == [0, 1, 2, 3] * 2
    assert records[0]["design"] == {"name": "mm_zero", "overrides": {"allowed_type_share": 0.1}}
    assert records[0]["render"] == {"size": 48, "backend": "cairosvg", "limits": {}}


@pytest.mark.parametrize("workers", ["0", "1", "2"])
def test_a_run_is_replayed_from_its_folder(run, capsys, workers):
    assert cli.main(["replay", str(run), "--workers", workers]) == 0
    assert capsys.readouterr() == ("12 episodes replayed: 12 identical, 0 different\n", "")


def test_a_file_and_a_folder_of_parquet_are_replayed(run, capsys):
    for file in list((run / "episodes").iterdir()):
        convert(file, file.with_suffix(".parquet"))
        file.unlink()
    assert cli.main(["replay", str(run / "episodes")]) == 0
    assert "12 identical" in capsys.readouterr().out
    assert cli.main(["replay", str(run / "episodes" / "iter-1-solver.parquet")]) == 0
    assert "4 identical" in capsys.readouterr().out
    # The gallery of a report reads them just as well.
    shown = gallery.collect(Scanner().scan(run / "episodes"), 1_000_000)
    assert [(group.file.stage, group.total) for group in shown.groups] == [
        ("proposer", 8),
        ("solver", 4),
    ]


def test_the_first_difference_is_printed_and_the_exit_code_is_one(run, capsys):
    path = run / "episodes" / "iter-1-solver.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    place, record = next((n, r) for n, line in enumerate(lines) if (r := json.loads(line))["codes"])
    record["codes"][0]["reward"]["value"] += 1
    record["versions"]["cairo"] = "1.0.0"
    lines[place] = json.dumps(record)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert cli.main(["replay", str(run)]) == 1
    shown = capsys.readouterr()
    assert "12 episodes replayed: 11 identical, 1 different\n" in shown.out
    assert f"iter-1-solver.jsonl, episode {record['id']}\n" in shown.out
    value = record["codes"][0]["reward"]["value"]
    assert f"  codes[0].reward.value: recorded {value!r}, now " in shown.out
    assert "mean reward, coder: recorded" in shown.out
    assert "note: cairo 1.0.0 then, " in shown.err


def test_another_design_is_scored_and_its_means_are_shown(run, capsys):
    assert cli.main(["replay", str(run), "--design", "no_diversity"]) == 1
    shown = capsys.readouterr().out
    assert "reward.terms" in shown or "reward.value" in shown
    assert "mean reward, proposer: recorded" in shown
    assert cli.main(["replay", str(run), "--design", "mm_zer"]) == 2
    assert "Did you mean 'mm_zero'" in capsys.readouterr().err


def test_a_torn_end_is_reported_and_the_rest_is_replayed(run, capsys):
    path = run / "episodes" / "iter-1-proposer.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert cli.main(["replay", str(run)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("11 episodes replayed: 11 identical")
    assert "iter-1-proposer.jsonl, line 8 is unfinished" in shown.err
    assert "note: 3 episodes were scored together with others that are not here" in shown.err


def test_mistakes_are_one_message_and_exit_code_two(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.jsonl").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("?")
    for arguments, said in (
        ([str(tmp_path / "absent")], "No such file"),
        ([str(tmp_path / "empty")], "holds no episode records"),
        ([str(tmp_path / "none.jsonl")], "holds no finished episode to replay"),
        ([str(tmp_path / "notes.txt")], "ends in .jsonl or .parquet"),
        ([str(run), "--workers", "-1"], "--workers expects 0 or more, got -1"),
    ):
        assert cli.main(["replay", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
