"""A run that is killed at random moments comes out as one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainers.killed_runs import TRACKER
from tests.trainers.test_evolve import TINY

KILLS = 12
SMALL = {
    **TINY,
    "iterations": "2",
    "proposer.steps": "2",
    "proposer.codes": "1",
    "proposer.answers": "2",
    "coder.pool": "8",
    "coder.codes": "2",
    "coder.answers": "2",
    "solver.pool": "12",
    "solver.answers": "2",
    "solver.group_size": "4",
    "probe.items": "5",
    "probe.samples": "1",
    "reward.proposer.repetition": "-0.2",
}


def run(folder: Path, kills: int, seed: int = 0, **settings: str) -> list[str]:
    made = json.dumps({**SMALL, **settings, "out": str(folder)})
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainers.killed_runs", made, str(kills), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(done.stdout)


def content(folder: Path) -> dict[str, object]:
    """Everything of a run that must not depend on whether it was killed."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in ("config.json", "trackers.json"):
            continue
        if path.parent.name == TRACKER:
            continue
        name = str(path.relative_to(folder))
        if name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.open()]
            found[name] = [
                {k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows
            ]
        elif path.suffix == ".jsonl":
            found[name] = path.read_text().splitlines()
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("lora", ["0", "4"])
def test_a_run_killed_at_random_moments_is_the_run_that_was_left_alone(
    tmp_path: Path, lora: str
) -> None:
    kills, iterations = (KILLS, "2") if lora == "0" else (3, "1")
    settings = {"lora_rank": lora, "iterations": iterations}
    assert run(tmp_path / "whole", 0, **settings) == []
    stood = run(tmp_path / "killed", kills, seed=int(lora), **settings)
    assert len(stood) == kills
    whole, killed = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert {name for name in whole if whole[name] != killed[name]} == set()
    # Kills that all fell into the same moment would show little.
    assert len(set(stood)) >= 2 * kills // 3, stood
