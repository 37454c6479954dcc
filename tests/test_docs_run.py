"""Every command and every example of README and docs is run, smaller where it would take long.

What cannot be run is in ``tests/docs_elsewhere.py``, with the reason. A command that is neither
makes a test fail: new benchmarks want their smallest size here, new programs a reason there.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import agents
from mmzero_env.protocol import ROLES
from mmzero_env.rendering import backends
from mmzero_env.rendering.figures import missing_for_figures
from tests import docs_elsewhere
from tests.agents.fake_server import FakeServer
from tests.docs_commands import PAGES, ROOT, Block, Command, blocks, commands
from tests.docs_elsewhere import Elsewhere
from trainers import cli

NANO = ROOT / "agents" / "nano" / "model"
RUN = "runs/nano-cpu"
"""The run that commands look at, one tiny iteration."""
TINY = {
    "threads": "1",
    "proposer.steps": "1",
    "proposer.prompts_per_step": "1",
    "proposer.group_size": "2",
    "proposer.codes": "1",
    "proposer.answers": "2",
    "coder.steps": "1",
    "coder.prompts_per_step": "1",
    "coder.group_size": "2",
    "coder.answers": "2",
    "coder.pool": "2",
    "solver.steps": "1",
    "solver.prompts_per_step": "1",
    "solver.group_size": "2",
    "solver.answers": "2",
    "solver.pool": "2",
    "filters.easy_low": "0",
    "filters.hard_low": "0",
    "filters.hard_high": "1",
    "filters.render_low": "0",
    "filters.render_high": "1",
    "monitor.blind_items": "0",
    "probe.items": "5",
    "probe.samples": "1",
}
EVOLVE = (
    "mmzero",
    "evolve",
    *(word for pair in TINY.items() for word in ("--set", "=".join(pair))),
)
PLAIN = (*EVOLVE, "--iterations", "1")
SMALL = {
    "mmzero eval": {"--items": "5"},
    "mmzero bench hacks": {"--quick": "", "--seeds": "0,1"},
    "mmzero bench rewards": {"--ground": "simulated", "--seeds": "0,1", "--workers": "1"},
    "mmzero bench throughput": {"--quick": "", "--only": "guard_fuzz"},
    "benchmarks.diversity": {"--sizes": "20", "--words": "15"},
    "benchmarks.environment": {"--episodes": "6", "--rounds": "1", "--long": "20", "--fuzz": "100"},
    "benchmarks.grounding": {"--specs": "5"},
    "benchmarks.guard_fuzz": {"--count": "50"},
    "benchmarks.plan_check": {},
    "benchmarks.scale": {},
    "benchmarks.scoring": {"--episodes": "6", "--rounds": "1"},
}
"""Options that make a command small; what it says itself for them is replaced."""
UNSAID = {
    "mmzero bench hacks": {"--adversaries": "blank_picture", "--designs": "mm_zero"},
    "mmzero bench rewards": {"--designs": "mm_zero,r_zero"},
}
"""The same for options that it does not say itself."""


def smaller(words: Sequence[str]) -> tuple[str, ...]:
    """The command that is run for a command of the docs."""
    words = [word.replace("PATH-or-ID", str(NANO)) for word in words]
    if words[:3] == ["mmzero", "evolve", "--resume"]:
        return (*words[:3], RUN)
    if words[:2] == ["mmzero", "evolve"]:
        text = " ".join(words[2:]) + " "
        own = re.sub(r"--(preset nano-cpu|iterations 1|out DIR) ", "", text).split()
        return (*PLAIN, *own)
    if words[0] == "mmzero":
        name = " ".join(words[: 3 if words[1] == "bench" else 2])
    elif words[:2] == ["python", "-m"] and words[2] in SMALL:
        name = words[2]
    else:
        raise LookupError(f"{' '.join(words)}: give its smallest size, or the reason")
    words = _with_a_run(words)
    for option, value in SMALL.get(name, {}).items():
        if option in words:
            place = words.index(option)
            del words[place : place + (2 if value else 1)]
        words += [option, value] if value else [option]
    for option, value in UNSAID.get(name, {}).items():
        words += [] if option in words else [option, value]
    return tuple(words)


def _with_a_run(words: list[str]) -> list[str]:
    names = {"RUN_DIR": RUN, "DIR": RUN, "MODEL": f"{RUN}/checkpoints/iter-1"}
    names["FILE"] = "episodes.jsonl"
    return [
        "new" if before == "--out" and word == "DIR" else names.get(word, word)
        for before, word in zip(["", *words], words, strict=False)
    ]


def sorted_out() -> tuple[dict[tuple[str, ...], Command], list[str]]:
    """What to run, each once, with the first command that it stands for; what is forgotten."""
    found, forgotten = {PLAIN: Command(ROOT / "README.md", "mmzero evolve", ())}, []
    for command in commands():
        if not any(each.covers(" ".join(command.words)) for each in docs_elsewhere.COMMANDS):
            try:
                found.setdefault(smaller(command.words), command)
            except LookupError as error:
                forgotten.append(f"{command.page.name}: {error}")
    return found, forgotten


RUNS, FORGOTTEN = sorted_out()
REASONS = (*docs_elsewhere.COMMANDS, *docs_elsewhere.BLOCKS)
CODE = [b for page in PAGES for b in blocks(page) if b.language in ("python", "toml")]
PLANS = [b for page in PAGES for b in blocks(page) if b.code.startswith("$ mmzero ")]


def elsewhere(block: Block) -> bool:
    text = f"{block.page.stem}: {block.code}"
    return any(each.covers(text) for each in docs_elsewhere.BLOCKS)


def test_every_command_is_run_or_has_a_reason():
    assert FORGOTTEN == []
    assert len(RUNS) > 50


@pytest.mark.parametrize("entry", REASONS, ids=[each.pattern for each in REASONS])
def test_a_reason_covers_something_and_its_test_exists(entry: Elsewhere):
    texts = [" ".join(command.words) for command in commands()]
    texts += [f"{block.page.stem}: {block.code}" for block in CODE]
    assert any(entry.covers(text) for text in texts)
    if entry.test:
        assert entry.says and entry.says in (ROOT / entry.test).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of one tiny iteration, by ``mmzero evolve``."""
    folder = tmp_path_factory.mktemp("docs")
    with chdir(folder):
        assert cli.main(PLAIN[1:]) == 0
    # Every stage ends with a collection, most of which would be of what was imported by now.
    gc.collect()
    gc.freeze()
    yield folder / RUN
    gc.unfreeze()


@pytest.fixture
def workspace(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: with what commands and examples read."""
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copyfile(made / "episodes" / "iter-1-coder.jsonl", "episodes.jsonl")
    (design,) = (b.code for b in CODE if b.language == "toml" and b.page.stem == "rewards")
    Path("my-design.toml").write_text(design, encoding="utf-8")
    return tmp_path


def ready(words: Sequence[str], made: Path) -> None:
    """Copy the run to where a command looks for one; what is to be resumed is not finished."""
    named = {word.split("/")[1] for word in words if word.startswith("runs/")}
    for name in named - {Path(after(words, "--out", "-")).name}:
        shutil.copytree(made, Path("runs") / name)
        if "--resume" in words:
            config = Path("runs") / name / "config.json"
            settings = json.loads(config.read_text())
            config.write_text(json.dumps({**settings, "iterations": 2}))


def after(words: Sequence[str], option: str, default: str) -> str:
    return words[words.index(option) + 1] if option in words else default


@pytest.mark.parametrize("words", RUNS, ids=[command.name for command in RUNS.values()])
def test_a_command_of_the_docs_runs(words, workspace, made, monkeypatch, capfd):
    ready(words, made)
    if words == PLAIN:
        shutil.copytree(made, RUN)
    elif words[0] == "mmzero":
        shrink(words, monkeypatch)
        with served() as fakes:
            given = [word.replace("MODEL@URL", f"fake@{fakes[0].url}") for word in words[1:]]
            assert cli.main(given) == 0
        assert bool(fakes[0].seen) == any("MODEL@URL" in word for word in words)
        assert capfd.readouterr().out.strip()
    else:
        module = importlib.import_module(words[2])
        monkeypatch.setattr(sys, "argv", list(words[2:]))
        assert module.main() in (0, None)
        assert capfd.readouterr().out.strip()
    if words[1] == "evolve":
        run = Path(after(words, "--resume", after(words, "--out", RUN)))
        iterations = json.loads((run / "probe.json").read_text())["iterations"]
        assert iterations == ([0, 1, 2] if "--resume" in words else [0, 1])
        rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        trained = {row["stage"] for row in rows}
        # In pools of two, filters may leave nothing.
        assert trained == set(ROLES) or ("reward_design=caption_grounded" in words and trained)
        assert (run / "report.html").stat().st_size > 100_000
    elif "--out" in words:
        assert any(Path(after(words, "--out", "")).iterdir())
    if "--publish" in words:
        assert any(Path("published").iterdir())


@contextmanager
def served() -> Iterator[list[FakeServer]]:
    """Fake servers: one of any model, two of nano with adapters, three with a whole model each."""
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    fakes = [FakeServer()] + [FakeServer(tokenizer, base="nano", root=str(NANO)) for _ in range(5)]
    for place, fake in enumerate(fakes[3:]):
        fake.restarted(f"nano~0000000{place}")
    try:
        yield fakes
    finally:
        for fake in fakes:
            fake.stop()


def shrink(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a command smaller than its options can, and let it publish here."""
    if words[1] == "evolve":
        from trainers import evolve

        # Half of such a run is the probe; the one that `made` shows is whole.
        monkeypatch.setattr(evolve, "Probe", partial(evolve.Probe, max_tokens=8))
    elif words[:3] == ("mmzero", "bench", "hacks"):
        from benchmarks.hacks import command

        Path("published").mkdir()
        monkeypatch.setattr(command, "RESULTS", Path("published"))
        monkeypatch.setattr(command, "QUICK_TOPICS", 1)
    elif words[:3] == ("mmzero", "bench", "rewards"):
        from benchmarks import simulated_world

        tiny = simulated_world.Settings(rounds=2, proposals=16, coder=6, solver=6)
        monkeypatch.setattr(simulated_world, "FULL", tiny)
        monkeypatch.setattr(simulated_world, "QUICK", tiny)


def figures_or_skip() -> None:
    missing = missing_for_figures()
    if missing is not None:
        # Continuous integration installs bubblewrap: there a skip would hide a defect.
        if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.mark.parametrize("block", PLANS, ids=[block.code.splitlines()[0] for block in PLANS])
def test_what_a_page_shows_is_what_the_command_prints(block, workspace, capsys):
    typed, shown = block.code[2:].split("\n", 1)
    assert cli.main(typed.split()[1:]) == int("does not fit" in shown)
    printed = " ".join(capsys.readouterr().out.split())
    for part in shown.split("…"):
        assert " ".join(part.split()) in printed


# Examples ---------------------------------------------------------------------------

CHANGED = {
    "README": (("Qwen/Qwen3-VL-4B-Instruct@http://127.0.0.1:8000", "nano@{0}"),),
    "environment": (("learn(2048)", "learn(256)"),),
    "plug-in-a-model": (("BASE@http://127.0.0.1:8000,http://127.0.0.1:8001", "nano@{0},{1}"),),
    "vllm": (
        ("Qwen/Qwen3-VL-4B-Instruct@http://127.0.0.1:40321", "nano@{0}"),
        (
            "BASE@http://127.0.0.1:8000|http://127.0.0.1:8001|http://127.0.0.1:8002",
            "nano@{2}|{3}|{4}",
        ),
    ),
}
"""What an example cannot have in a test, and what it gets: servers that are fakes, fewer steps."""
TO_RUN = [block for block in CODE if not elsewhere(block)]


@pytest.mark.parametrize("block", TO_RUN, ids=[block.name for block in TO_RUN])
def test_an_example_of_the_docs_runs(block, workspace, made, monkeypatch, capsys):
    assert block.language == "python", "who reads it?"
    page, code = block.page.stem, block.code
    if page == "rendering-python":
        figures_or_skip()
    if page == "export":
        ready([RUN], made)
        assert cli.main(["export", "dataset", RUN, "--out", "export/data"]) == 0
    if page == "report":
        ready([RUN], made)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    for path in re.findall(r'"(runs/\S+/(?:adapters|checkpoints)/\S+)"', code):
        shutil.copytree(NANO, path)
    with served() as (_, *fakes):
        for told, given in CHANGED.get(page, ()):
            code = code.replace(told, given.format(*(fake.url for fake in fakes)))
        code = code.replace("Qwen/Qwen3-VL-4B-Instruct", str(NANO))
        assert "http://127.0.0.1:8000" not in code
        names = {"agents": agents, "my_model": lambda *asked: "any text"}
        exec(compile(code, block.page.name, "exec"), names)
        if hasattr(names.get("policy"), "close"):
            names["policy"].close()


def test_what_is_changed_in_an_example_stands_there():
    for page, changes in CHANGED.items():
        code = "".join(block.code for block in TO_RUN if block.page.stem == page)
        assert all(told in code for told, _ in changes)


def test_the_renderer_of_the_documentation_draws(tmp_path, monkeypatch, capsys):
    module, use = blocks(ROOT / "docs" / "renderer.md")
    (tmp_path / "grey.py").write_text(module.code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS})
    exec(compile(use.code, "renderer.md", "exec"), {})
    assert capsys.readouterr().out == "[76 76 76]\n"


@pytest.mark.parametrize("block", [b for b in CODE if b.language == "toml"], ids=lambda b: b.name)
def test_toml_is_toml(block):
    assert tomllib.loads(block.code)
