"""Every command of README and docs is taken by the program that it names, as it stands there.

``tests/test_docs_run.py`` runs them.
"""

import importlib.util
import re
import subprocess
import tomllib

import pytest

from benchmarks import command as bench
from tests.docs_commands import ROOT, commands
from trainers import cli, config

COMMANDS = list(commands())
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_there_are_commands_to_test():
    assert len(COMMANDS) > 150


@pytest.mark.parametrize("command", [pytest.param(each, id=each.name) for each in COMMANDS])
def test_a_command_of_the_docs_is_understood(command):
    program, *rest = command.words
    rest += ["1" if word in ("N", "S") else word for word in command.options]
    if program == "accelerate":
        if "--config_file" in rest:
            assert (ROOT / rest[rest.index("--config_file") + 1]).is_file()
        understood(rest[rest.index("evolve") :])
    elif program == "make":
        # Says what would be done, so target and variables are known.
        asked = ["make", "--dry-run", "PYTHON=python3", *rest]
        assert subprocess.run(asked, cwd=ROOT, capture_output=True).returncode == 0
        for word in rest[1:]:
            assert f"{word.partition('=')[0]} ?=" in (ROOT / "Makefile").read_text()
    elif program.endswith("python"):
        module = rest[1]
        assert module in ("pytest", "venv") or importlib.util.find_spec(module) is not None
        source = ROOT / f"{module.replace('.', '/')}.py"
        for option in (word for word in rest[2:] if word.startswith("--")):
            assert f'"{option.partition("=")[0]}"' in source.read_text(encoding="utf-8")
    elif program.endswith("mmzero"):
        understood(rest)
    elif program == "pip":
        for extras in re.findall(r"\[(.*)\]", " ".join(rest)):
            assert set(extras.split(",")) <= set(EXTRAS)
        assert "-c" not in rest or (ROOT / rest[rest.index("-c") + 1]).is_file()


def understood(words):
    if words[0] == "bench":
        bench.build_parser().parse_args(words[1:])
        return
    if len(words) == 1 and words[0] in ("eval", "report", "replay", "export"):
        return  # the name of a command in prose
    args = cli.build_parser().parse_args(words)
    if words[0] in ("evolve", "plan", "serve") and getattr(args, "resume", None) is None:
        settings = cli.parse_settings(
            [each for each in getattr(args, "settings", []) if each != "key=value"]
        )
        # A design file of the reader's own; every other value is checked.
        if settings.get("reward_design", "").endswith(".toml"):
            del settings["reward_design"]
        config.load(args.preset or "nano-cpu", settings)
