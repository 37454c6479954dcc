from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.downstream import harness
from benchmarks.downstream.harness import Harness, find
from mmzero_env.errors import EngineError, UserError


def python(folder: Path, script: str) -> Path:
    """A Python whose driver is a script: it gets ``-P DRIVER`` as arguments and ignores them."""
    folder.mkdir(exist_ok=True)
    path = folder / "python"
    path.write_text(f"#!{sys.executable} -S\n{script}")
    path.chmod(0o755)
    return path


HELLO = """
import json, sys
print(json.dumps({"versions": {"lmms_eval": "0.7.3"}}), flush=True)
"""


def test_the_command_that_makes_the_environment_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(UserError, match=r"make lmms-eval"):
        find(None)
    with pytest.raises(UserError, match="is no Python"):
        find(tmp_path / "none")
    (tmp_path / ".venv-eval" / "bin").mkdir(parents=True)
    found = tmp_path / ".venv-eval" / "bin" / "python"
    found.touch()
    assert find(None) == find(tmp_path / ".venv-eval") == find(found) == found


def test_a_python_without_lmms_eval_is_refused_with_its_words(tmp_path) -> None:
    with pytest.raises(UserError, match=r"(?s)cannot run lmms-eval.*lmms_eval.*make lmms-eval"):
        Harness(Path(sys.executable), tmp_path / "log")


def test_another_version_is_refused(tmp_path) -> None:
    script = HELLO.replace("0.7.3", "0.9.0") + "sys.stdin.read()"
    with pytest.raises(UserError, match="has lmms-eval 0.9.0; the table of sets is that of 0.7.3"):
        Harness(python(tmp_path / "bin", script), tmp_path / "log")


def test_errors_of_the_process_are_ours_and_name_the_log(tmp_path) -> None:
    script = HELLO + (
        'sys.stdin.readline(); print(json.dumps({"error": "KeyError: x"}), flush=True)\n'
        'sys.stdin.readline(); print("no memory", file=sys.stderr); sys.exit(9)'
    )
    with Harness(python(tmp_path / "bin", script), tmp_path / "log") as running:
        assert running.look({"name": "mmmu"}) == {"error": "KeyError: x"}
        with pytest.raises(EngineError, match=r"ended with code 9: no memory; its log is .*log"):
            running.ask(set={})
    with Harness(python(tmp_path / "bin", script), tmp_path / "log") as running:
        with pytest.raises(EngineError, match=r"lmms-eval failed: KeyError: x.*log"):
            running.ask(set={})


def test_keys_and_hub_settings_reach_the_process_as_they_should(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    script = HELLO + (
        "import os\nsys.stdin.readline()\n"
        'print(json.dumps({n: os.environ.get(n) for n in ("OPENAI_API_KEY", "HF_HUB_OFFLINE")}))'
    )
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for offline, said in ((False, None), (True, "1")):
        with Harness(python(tmp_path / "b", script), tmp_path / "log", offline=offline) as running:
            assert running.look({}) == {"OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": said}
    assert os.environ["OPENAI_API_KEY"] == "secret"


def test_whether_the_hub_answers_is_asked_once_and_briefly(monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not harness.hub_answers(1)
