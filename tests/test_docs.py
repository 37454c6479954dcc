"""Every command of README and docs is taken by the program that it names, as it stands there."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import command as bench
from mmzero_env.rendering import backends
from trainers import cli, config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_STARTS = ("mmzero ", "make ", "python -m ", "accelerate ", ".venv/bin/mmzero ")


def commands():
    """Every command line with its page: continued lines joined, comments and usage marks gone."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            line = line.strip()
            if line.startswith(_STARTS):
                yield pytest.param(spelled(line), id=f"{page.stem}: {line[:60]}")
        for inline in re.findall(r"`((?:mmzero|python -m) [^`\n]+)`", text):
            yield pytest.param(spelled(inline), id=f"{page.stem}: {inline[:60]}")


def spelled(line):
    """The words of a command: no comment, nothing in brackets, no ellipsis."""
    line = re.sub(r"\s#.*", "", line)
    line = re.sub(r"\[[^\]]*\]", "", line)
    line = re.sub(r"--set \S*(…|\.\.\.)", "", line).replace("--preset …", "--preset nano-cpu")
    return [word for word in shlex.split(line) if word not in ("…", "...")]


COMMANDS = list(commands())


def test_there_are_commands_to_test():
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_docs_is_understood(words, tmp_path, monkeypatch):
    program, *rest = words
    if program == "accelerate":
        assert (ROOT / rest[rest.index("--config_file") + 1]).is_file() or "/" not in rest[2]
        rest = rest[rest.index("trainers.cli") + 1 :] if "trainers.cli" in rest else rest
        program = "mmzero" if rest[0] == "evolve" else program
    if program == "make":
        targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0].partition("=")[0] in targets
    elif program == "python":
        module = rest[1]
        assert module in ("pytest", "venv") or importlib.util.find_spec(module) is not None
        source = ROOT / f"{module.replace('.', '/')}.py"
        for option in (word for word in rest[2:] if word.startswith("--")):
            assert module == "pytest" or f'"{option.partition("=")[0]}"' in _sources(source)
    elif program.endswith("mmzero"):
        understood(rest)


def understood(words):
    if words[0] == "bench":
        if len(words) > 1 and "|" not in words[1]:
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


def blocks(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)


def test_the_examples_of_the_start_run(capsys):
    for block in blocks("start.md"):
        exec(compile(block, "start.md", "exec"), {})


def test_the_renderer_of_the_documentation_draws(tmp_path, monkeypatch, capsys):
    module, use = blocks("renderer.md")
    (tmp_path / "grey.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS})
    exec(compile(use, "renderer.md", "exec"), {})
    assert capsys.readouterr().out == "[76 76 76]\n"


def _sources(source):
    """The text of a module and of the modules of the project that it takes options from."""
    if not source.exists():
        source = source.with_suffix("") / "__main__.py"
    return source.read_text(encoding="utf-8")
