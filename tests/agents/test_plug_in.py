"""The how-to on plugging in a model does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agents
from agents import registry
from agents.http_policy import HttpPolicy
from agents.policy import Policy
from mmzero_env.episode import Episode
from mmzero_env.rendering import Renderer
from trainers.rollout import collect

GUIDE = Path(__file__).parents[2] / "docs" / "plug-in-a-model.md"


def block(language: str, containing: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
    (text,) = [text for text in found if containing in text]
    return text


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


def test_a_new_agent_takes_thirty_lines_and_plays_an_episode():
    code = block("python", "class Echo")
    assert len(code.splitlines()) <= 30
    names: dict = {}
    exec(code, names)
    echo = names["policy"]
    assert isinstance(echo, Policy)
    oracle = agents.make("scripted:oracle")
    with Renderer(size=64) as renderer:
        (rollout,) = collect(
            [Episode("e", "spatial and geometric reasoning", 1)],
            {"proposer": oracle, "coder": echo, "solver": echo},
            renderer,
        )
    assert rollout.outcome.codes and all(code.drawing.ok for code in rollout.outcome.codes)
    assert rollout.outcome.codes[0].answers["hard"][0] == "\\boxed{42}"


def test_the_policies_of_the_guide_can_be_made():
    names: dict = {}
    exec(block("python", "openai:qwen3-vl"), names)
    policy = names["policy"]
    assert isinstance(policy, HttpPolicy) and policy.max_open == 16 and policy.usage.cost == 0
    text = GUIDE.read_text("utf-8")
    assert set(agents.kinds()) <= set(re.findall(r"^\| `(\w+)", text, re.M))


def test_an_installed_package_adds_its_kind_by_an_entry_point(tmp_path):
    declared = tomllib.loads(block("toml", "mmzero.agents"))
    group = declared["project"]["entry-points"]["mmzero.agents"]
    code = block("python", "class Echo").split("agents.register")[0]
    factory = "\n\ndef make_echo(argument, *, times=1):\n    e = Echo()\n"
    factory += "    e.name = argument * times\n    return e\n"
    (tmp_path / "my_package.py").write_text(code + factory)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in group.items()]
    (info / "entry_points.txt").write_text("[mmzero.agents]\n" + "\n".join(lines) + "\n")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import agents; "
        "from mmzero_env.protocol import Request; "
        "assert 'my_package' not in sys.modules and 'echo' in agents.kinds(); "
        "p = agents.make('echo:loud?times=2'); "
        "r = Request(id='r', role='solver', prompt='?', n=2); "
        "print(p.name, [c.text for c in p.generate([r])[0].completions]); agents.make('ecko')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "loudloud ['\\\\boxed{42}', '\\\\boxed{42}']\n"
    assert "unknown policy 'ecko'. Did you mean 'echo'?" in done.stderr
    with pytest.raises(ValueError, match="unknown policy 'echo'"):
        agents.make("echo")
