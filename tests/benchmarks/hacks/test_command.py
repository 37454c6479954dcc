"""``mmzero bench hacks`` as it is typed: results, resumption, mistakes."""

from __future__ import annotations

import json

import pytest

from benchmarks import command
from benchmarks.hacks import arms as arms_module
from benchmarks.hacks import command as hacks
from mmzero_env.errors import UserError
from mmzero_env.rewards import DESIGNS

SMALL = ("hacks", "--quick", "--seeds", "0,1", "--adversaries", "blank_picture,no_box")


@pytest.fixture(autouse=True)
def one_topic(monkeypatch) -> None:
    monkeypatch.setattr(hacks, "QUICK_TOPICS", 1)


def test_a_stopped_bench_goes_on_and_comes_to_the_same_result(
    tmp_path, monkeypatch, capsys
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = (*SMALL, "--designs", "mm_zero,evolmm")
    assert command.run([*words, "--details", "--out", str(whole)]) == 0
    shown = capsys.readouterr().out
    assert "mm_zero: pays 0 of 2" in shown and "blank_picture" in shown

    tried = arms_module.Arms.tried

    def interrupted(self, adversary, seed):
        if (adversary.name, seed) == ("no_box", 1):
            raise KeyboardInterrupt
        return tried(self, adversary, seed)

    with monkeypatch.context() as patch:
        patch.setattr(arms_module.Arms, "tried", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.run([*words, "--out", str(stopped)])
    assert not (stopped / "hacks.json").exists()
    assert command.run([*words, "--out", str(stopped)]) == 0
    assert "5 of 6 were done before" in capsys.readouterr().err
    first, second = (json.loads((folder / "hacks.json").read_text()) for folder in (whole, stopped))
    for result in (first, second):
        assert result.pop("command").startswith("mmzero bench hacks --quick")
        assert result.pop("machine") and result.pop("revision")
    assert first == second and first["seeds"] == [0, 1]
    assert first["adversaries"]["no_box"]["designs"]["mm_zero"]["difference"]["mean"] < -0.5
    for name in ("hacks.md", "hacks.svg"):
        assert "no_box" in (whole / name).read_text()
    with pytest.raises(UserError, match=r"other settings \(designs\)"):
        command.run([*SMALL, "--designs", "r_zero", "--out", str(stopped)])


def test_every_registered_design_takes_part_once(tmp_path, monkeypatch, capsys) -> None:
    # With fewer, a strict design may find no label at all.
    monkeypatch.setattr(hacks, "QUICK_TOPICS", 6)
    words = ["hacks", "--quick", "--seeds", "0,1", "--adversaries", "no_box"]
    command.run([*words, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "hacks.json").read_text())
    assert list(found["summary"]) == list(DESIGNS)
    assert len(found["settings"]["designs"]) == len(DESIGNS)


def test_a_design_from_a_file_takes_part(tmp_path, capsys) -> None:
    path = tmp_path / "free.toml"
    path.write_text("[coder]\nrender = 5.0\nsolvability = 0.0\ndifficulty = 0.0\n")
    out = tmp_path / "out"
    words = ["hacks", "--quick", "--seeds", "0-1", "--adversaries", "blank_picture"]
    command.run([*words, "--designs", "mm_zero", "--design", str(path), "--out", str(out)])
    found = json.loads((out / "hacks.json").read_text())["adversaries"]["blank_picture"]["designs"]
    assert list(found) == ["mm_zero", "free"]
    # Paid for rendering alone, and a white picture always renders.
    assert found["free"]["difference"]["mean"] > 0 > found["mm_zero"]["difference"]["mean"]
    assert found["free"]["largest_term"]["name"] == "render"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adversaries", "blank_pictures"], "Did you mean 'blank_picture'"),
        (["--designs", "mm_hero"], "unknown reward design 'mm_hero'"),
        (["--design", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--design", "nowhere.json"], "expects a .toml file"),
        (["--seeds", "0"], "--seeds expects two seeds or more, got 1"),
        (["--seeds", "a"], "expected seeds as 0,1,2 or 0-4"),
        (["--solver", "reader?hard=2"], "hard is a number from 0 to 1, came 2"),
        (["--solver", "reader?skill=2"], "Options: abstain, easy, hard"),
        (["--solver", "reader:fast"], "takes options only"),
        (["--solver", "redder"], "unknown policy 'redder'. Did you mean 'reader'"),
        (["--prompts", "nanno"], "Did you mean 'nano'"),
    ],
)
def test_mistakes_are_told_before_anything_is_played(tmp_path, words, message) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        command.run(["hacks", "--quick", *words, "--out", str(out)])
    assert not out.exists()


def test_a_mistake_in_a_design_file_is_told_with_its_line(tmp_path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('base = "mm_zero"\n\n[coder]\nrendr = 1.0\n')
    with pytest.raises(UserError, match="bad.toml, line 4: unknown coder term 'rendr'"):
        command.run(["hacks", "--design", str(path), "--out", str(tmp_path / "out")])
