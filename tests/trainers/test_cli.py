from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import trainers
from mmzero_env.errors import EngineError, UserError, unknown
from trainers import cli


@dataclass
class Loop:
    """Stands in for the configuration and the loop; remembers what it was asked."""

    loaded: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    runs: list[tuple[Any, bool]] = field(default_factory=list)
    failure: BaseException | None = None
    writes: bool = False
    source: Path | None = None

    def load(self, preset: str, overrides: dict[str, str]) -> dict[str, str]:
        if preset != "nano-cpu":
            raise unknown("preset", preset, ["nano-cpu"])
        if "stepz" in overrides:
            raise unknown("setting", "stepz", ["solver.steps"])
        self.loaded.append((preset, overrides))
        return overrides

    def read(self, run: Path) -> dict[str, str]:
        return {"out": str(run)}

    def run(self, config: dict[str, str], *, resume: bool, progress: Any, ranks: Any) -> None:
        self.runs.append((config, resume))
        out = Path(config["out"])
        out.mkdir(parents=True, exist_ok=True)
        progress.start(1, ["solver"])
        progress.stage(1, "solver", 2)
        progress.step({"reward": 0.5})
        if self.writes:
            (out / "config.json").write_text("{}")
        if self.failure is not None:
            raise self.failure
        progress.step({"reward": 0.6})
        progress.close()
        if self.source is not None:
            for path in self.source.iterdir():
                if path.is_file():
                    (out / path.name).write_bytes(path.read_bytes())


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_run) -> Loop:
    fake = Loop(source=make_run("finished"))
    config, evolve = types.ModuleType("trainers.config"), types.ModuleType("trainers.evolve")
    config.__dict__.update(load=fake.load, read=fake.read)
    evolve.__dict__.update(run=fake.run)
    monkeypatch.setitem(sys.modules, "trainers.config", config)
    monkeypatch.setitem(sys.modules, "trainers.evolve", evolve)
    monkeypatch.setattr(trainers, "config", config, raising=False)
    monkeypatch.setattr(trainers, "evolve", evolve, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    return fake


def test_evolve_prints_the_table_and_names_the_report(loop, tmp_path, capsys) -> None:
    out = tmp_path / "new"
    code = cli.main(["evolve", "--out", str(out), "--iterations", "2", "--set", "solver.steps=4"])
    assert code == 0
    assert loop.loaded == [
        ("nano-cpu", {"solver.steps": "4", "iterations": "2", "out": str(out)}),
    ]
    assert loop.runs[0][1] is False
    shown = capsys.readouterr()
    assert "true accuracy of each role before → after each iteration" in shown.out
    assert "0.641 [0.617, 0.664]" in shown.out
    assert re.search(r"\+0\.107 \[\+0\.0\d\d, \+0\.1\d\d\] ▲", shown.out)
    assert f"report: {out / 'report.html'}" in shown.out
    assert (out / "report.html").is_file()
    assert "solver 2/2  reward +0.600" in shown.err


def test_without_out_every_run_gets_a_directory_of_its_own(loop) -> None:
    assert cli.main(["evolve", "--quiet"]) == 0
    assert cli.main(["evolve", "--quiet"]) == 0
    assert [config["out"] for config, _ in loop.runs] == [
        os.path.join("runs", "nano-cpu"),
        os.path.join("runs", "nano-cpu-2"),
    ]


def test_quiet_shows_no_progress(loop, capsys) -> None:
    assert cli.main(["evolve", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_directory_that_is_not_empty_is_refused_and_resume_is_named(loop, tmp_path, capsys):
    out = tmp_path / "my run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert cli.main(["evolve", "--out", str(out)]) == 2
    assert f"mmzero evolve --resume '{out}'" in capsys.readouterr().err
    assert loop.runs == []
    assert (out / "notes.txt").read_text() == "mine"


def test_resume_keeps_the_settings_of_the_run(loop, make_run, capsys) -> None:
    run = make_run()
    assert cli.main(["evolve", "--resume", str(run)]) == 0
    assert loop.runs == [({"out": str(run)}, True)]
    assert loop.loaded == []
    assert cli.main(["evolve", "--resume", str(run), "--seed", "3", "--set", "a=1"]) == 2
    assert "cannot be combined with --seed, --set" in capsys.readouterr().err
    assert cli.main(["evolve", "--resume", str(run / "episodes")]) == 2
    assert "no config.json" in capsys.readouterr().err


def test_ctrl_c_prints_the_command_that_resumes(loop, tmp_path, capsys) -> None:
    loop.failure = KeyboardInterrupt()
    assert cli.main(["evolve", "--out", str(tmp_path / "r")]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"mmzero evolve --resume {tmp_path / 'r'}")


def test_a_failure_of_ours_ends_with_one_and_says_how_to_resume(loop, tmp_path, capsys) -> None:
    loop.failure = EngineError("the render pool is gone")
    assert cli.main(["evolve", "--out", str(tmp_path / "r"), "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()
    # Nothing was written yet, so there is nothing to resume.
    assert said == ["error: the render pool is gone"]
    loop.writes = True
    assert cli.main(["evolve", "--out", str(tmp_path / "s"), "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert f"Resume with: mmzero evolve --resume {tmp_path / 's'}" in said[-2]
    assert said[-1] == "error: the render pool is gone"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evolve", "--preset", "nano-cup"], "unknown preset 'nano-cup'. Did you mean 'nano-cpu'?"),
        (["evolve", "--set", "stepz=3"], "Valid: solver.steps."),
        (["evolve", "--set", "steps"], "--set expects KEY=VALUE, got 'steps'"),
        (["evolve", "--set", "=3"], "--set expects KEY=VALUE, got '=3'"),
        (["evolve", "--seed", "1", "--set", "seed=2"], "seed is given twice"),
        (["eval", "nano", "--suite", "prob"], "unknown suite 'prob'. Did you mean 'probe'?"),
        (["eval", "nano", "--items", "0"], "--items expects a positive number, got 0"),
        (["report", "nowhere"], "nowhere is not a directory"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(loop, capsys, arguments, said) -> None:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert loop.runs == []


def test_a_missing_extra_is_named_with_the_pip_command(loop, monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else name)
    assert cli.main(["evolve"]) == 2
    said = capsys.readouterr().err
    assert "mmzero evolve needs trl, which is not installed" in said
    assert "pip install 'mmzero-env[train]'" in said


def test_report_rewrites_the_page_and_tells_what_is_missing(make_run, capsys) -> None:
    run = make_run()
    (run / "probe.json").unlink()
    assert cli.main(["report", str(run)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"report: {run / 'report.html'}\n"
    assert shown.err == "note: No true accuracy has been measured yet (probe.json is missing).\n"


@dataclass(frozen=True)
class Score:
    mean: float
    low: float
    high: float
    n: int


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for agents and probe; remembers which models were made and how they were asked."""
    import agents

    seen: dict[str, Any] = {"made": []}

    def make(spec: str) -> str:
        if spec == "nanoo":
            raise unknown("agent", spec, ["nano"])
        seen["made"].append(spec)
        return spec

    def evaluate(policies: dict[str, str], **options: Any) -> dict[str, Score]:
        seen.update(policies=policies, options=options)
        return {"solver_easy_sampled": Score(0.5, 0.4, 0.6, 99)}

    module = types.ModuleType("trainers.evaluate")
    module.__dict__["evaluate"] = evaluate
    monkeypatch.setitem(sys.modules, "trainers.evaluate", module)
    monkeypatch.setattr(trainers, "evaluate", module, raising=False)
    monkeypatch.setattr(agents, "make", make, raising=False)
    return seen


def test_eval_prints_the_scores_and_writes_them(asked, tmp_path, capsys) -> None:
    out = tmp_path / "scores"
    arguments = ["eval", "scripted:oracle", "--items", "99", "--seed", "4", "--out", str(out)]
    assert cli.main(arguments) == 0
    assert asked["made"] == ["scripted:oracle"]
    assert asked["options"] == {"seed": 4, "items": 99}
    shown = capsys.readouterr().out
    assert "0.500 [0.400, 0.600]" in shown and "score" in shown
    assert "base" not in shown and "change" not in shown
    written = json.loads((out / "eval.json").read_text())
    assert written["metrics"] == {
        "solver_easy_sampled": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 99}
    }


def test_eval_takes_a_model_folder_and_a_folder_of_three_roles(asked, tmp_path) -> None:
    assert cli.main(["eval", str(tmp_path)]) == 0
    assert asked["made"] == [f"transformers:{tmp_path}"]
    for role in ("proposer", "coder", "solver"):
        (tmp_path / role).mkdir()
    assert cli.main(["eval", str(tmp_path)]) == 0
    assert asked["policies"] == {
        role: f"transformers:{tmp_path / role}" for role in ("proposer", "coder", "solver")
    }


def test_eval_of_an_unknown_model_lists_the_known_ones(asked, capsys) -> None:
    assert cli.main(["eval", "nanoo"]) == 2
    assert "unknown agent 'nanoo'. Did you mean 'nano'? Valid: nano." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nano", "--suite", "mmu"], "unknown suite 'mmu'. Did you mean 'mmmu'?"),
        (["nano", "--suite", "chartqa"], "--base MODEL"),
        (["nano", "--no-base", "--suite", "chartqa", "--samples", "0"], "--samples expects 1"),
        (["nano", "--no-base", "--suite", "paper"], "several pictures"),
        (["nano", "--no-base", "--suite", "chartqa", "--harness", "/none"], "--harness /none"),
        (["nano", "--base", "nano", "--quick"], "--base, --quick: for downstream sets only"),
        (["nano", "--items", "0"], "--items expects a positive number"),
    ],
)
def test_eval_refuses_what_makes_no_sense(arguments, said, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["eval", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not asked["made"] and not list(tmp_path.iterdir())


def test_errors_of_other_kinds_are_not_hidden(loop) -> None:
    loop.failure = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        cli.main(["evolve", "--quiet"])
    loop.failure = UserError("a late mistake")
    assert cli.main(["evolve", "--quiet"]) == 2


def test_the_installed_command_answers_without_heavy_imports() -> None:
    script = (
        "import sys\nfrom trainers.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'scipy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("[]")
    assert all(command in done.stdout for command in ("evolve", "eval", "report"))


def test_a_command_that_no_package_brings_is_named():
    with pytest.raises(UserError, match="no installed package brings the command 'nothing'"):
        cli.plugged("nothing")


def test_commands_above_this_package_are_found():
    assert cli.plugged("bench").__module__ == "benchmarks.command"
    assert cli.plugged("downstream").__module__ == "benchmarks.downstream.command"
