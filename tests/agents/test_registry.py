from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import agents
from agents import registry
from agents.policy import Policy
from agents.scripted import ScriptedPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


def parrot(argument: str, *, loud: bool = False, times: int = 1) -> ScriptedPolicy:
    word = argument.upper() if loud else argument
    return ScriptedPolicy(f"parrot:{argument}", lambda request, rng: word * times)


def say(policy: Policy) -> str:
    return policy.generate([Request(id="r", role="solver", prompt="?")])[0].completions[0].text


def test_importing_the_package_imports_no_machine_learning_library():
    code = (
        "import sys, agents; agents.make('scripted:random'); agents.kinds(); "
        "bad = {'torch', 'transformers', 'trl'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_from_the_name_and_from_code():
    agents.register("parrot", parrot)
    assert say(agents.make("parrot:hi")) == "hi"
    assert say(agents.make("parrot:hi?loud=true&times=2")) == "HIHI"
    assert say(agents.make("parrot:a:b?times=2", loud=True)) == "A:BA:B"
    assert {"nano", "parrot", "scripted", "transformers"} <= set(agents.kinds())


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("parot:hi", {}, "unknown policy 'parot'. Did you mean 'parrot'?.*scripted, transformers"),
        ("", {}, "unknown policy ''"),
        ("parrot:hi?volume=3", {}, "volume.*Options: loud, times"),
        ("parrot:hi?loud=1", {"loud": True}, "'loud'.*given twice"),
        ("parrot:hi?loud", {}, "expected key=value"),
        ("parrot:hi", {"speed": 1}, "speed.*Options: loud, times"),
    ],
)
def test_names_that_mean_nothing(spec, options, message):
    agents.register("parrot", parrot)
    with pytest.raises(UserError, match=message):
        agents.make(spec, **options)


def test_kinds_that_cannot_be_registered():
    with pytest.raises(UserError, match="built in"):
        agents.register("nano", parrot)
    for kind in ("", "a:b", "a?b"):
        with pytest.raises(UserError, match="without"):
            agents.register(kind, parrot)


def test_installed_packages_add_kinds(monkeypatch):
    point = EntryPoint("echo", "agents.scripted:scripted", registry.ENTRY_POINT_GROUP)
    found = {point.group: [point]}
    monkeypatch.setattr(registry, "entry_points", lambda group: found[group])
    assert "echo" in agents.kinds()
    assert agents.make("echo:oracle").name == "scripted:oracle"
