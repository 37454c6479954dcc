"""The nano ground of ``mmzero bench rewards``: the bundled model, really trained.

Every design trains the nano model for one iteration from the same weights with the same
settings (:data:`SETTINGS`): equal steps, prompts and completions in every stage, whatever passes
the filters. What a run found is kept as its metric rows, its probe and, for each proposal of the
Proposer's stage, the difficulty it was paid for beside the true error rate of its hard question.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.reward_choice import Choice
from benchmarks.reward_measures import (
    DIFFICULTY,
    Values,
    last_of,
    mean_of,
)
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import ROLES, Proposal
from mmzero_env.record_files import read_records
from mmzero_env.record_schema import EpisodeRecord
from mmzero_env.world import truth
from trainers import config as configs
from trainers.correlation import rank_correlation
from trainers.progress import SilentProgress
from trainers.report import run_data

PRESET = "nano-cpu"
SETTINGS: Mapping[str, str] = {
    "iterations": "1",
    "threads": "1",
    "probe.items": "150",
    "probe.samples": "4",
    "proposer.steps": "6",
    "coder.steps": "8",
    "coder.pool": "120",
    "solver.steps": "10",
    "solver.pool": "240",
    # No limit by passes over a pool: designs whose labels pass the filters more often would
    # train longer.
    "coder.max_epochs": "0",
    "solver.max_epochs": "0",
}
"""What is different from the preset, chosen for about 100 seconds of one core a run."""

SECONDS = 100
"""About how long a run takes on one core of a cloud machine (AMD EPYC)."""


def play(choice: Choice, seed: int, folder: Path) -> Cell:
    """Train with a design, or go on where its run was stopped, and keep what the table needs.

    Args:
        choice: The design.
        seed: The run's.
        folder: Run directory. Its checkpoints are removed when the run is over.

    Returns:
        What :func:`kept` gives, and ``cpu_seconds`` of the whole run, which is None if it was
        stopped in between.
    """
    # The loop brings torch and TRL along, which no other benchmark needs to start.
    from trainers import evolve

    checkpoints = folder / "checkpoints"
    resume = (folder / "config.json").is_file()
    if (folder / "probe.json").is_file() and not checkpoints.exists():
        # Stopped at the last moment, when all was done.
        return kept(folder) | {"cpu_seconds": None}
    if resume:
        config = configs.read(folder)
    else:
        asked = {"reward_design": choice.source, "seed": str(seed), "out": str(folder)}
        stays = {"proposer.steps": "0"} if choice.untrained else {}
        config = configs.load(PRESET, {**SETTINGS, **asked, **stays})
    began = time.process_time()
    evolve.run(config, resume=resume, progress=SilentProgress())
    spent = time.process_time() - began
    cell = kept(folder) | {"cpu_seconds": None if resume else _short(spent)}
    shutil.rmtree(checkpoints)
    return cell


def kept(run: Path) -> Cell:
    """What the table needs of a finished run, as plain data.

    Returns:
        ``rows`` of ``metrics.jsonl``, the ``probe``'s means before and after by metric, and
        ``difficulty``: for each proposal of the Proposer's stage whose hard question has a true
        answer and a picture, what it was paid for difficulty and the share of false answers.
    """
    found = run_data.load(run)
    assert found.probe is not None, f"{run} is finished and has no probe"
    episodes = run / "episodes" / "iter-1-proposer.jsonl"
    # A Proposer that is not trained has none.
    records = read_records(episodes) if episodes.exists() else ()
    return {
        "rows": [
            {"stage": row.stage, "step": row.step}
            | {k: _short(v) for k, v in row.values.items() if not k.startswith("seconds_")}
            for row in found.rows
        ],
        "probe": {name: [_short(e.mean) for e in es] for name, es in found.probe.metrics.items()},
        "difficulty": [[_short(paid), _short(wrong)] for paid, wrong in difficulty(records)],
    }


def difficulty(records: Iterable[EpisodeRecord]) -> list[tuple[float, float]]:
    """What proposals were paid for difficulty, and the true error rates of their hard questions.

    Args:
        records: Episodes of a Proposer's stage.

    Returns:
        For each proposal with a picture whose hard question has a true answer: the sum of its
        terms of :data:`DIFFICULTY`, and the share of false answers over all its pictures.
    """
    pairs: list[tuple[float, float]] = []
    for record in records:
        if record["proposal"] is None:
            continue
        right = truth(Proposal(**record["proposal"]), "hard")
        given = [text for code in record["codes"] for text in code["answers"].get("hard", ())]
        if right is None or not given:
            continue
        answers = [extract_boxed(text) for text in given]
        wrong = [answer is None or not equivalent(answer, right) for answer in answers]
        terms = record["reward"]["terms"]
        paid = sum(terms.get(name, 0.0) for name in DIFFICULTY)
        pairs.append((paid, float(np.mean(wrong))))
    return pairs


def measures(cell: Cell) -> Values:
    """The measures of one run, with some that only this ground has.

    ``hack_rate`` is the mean of ``false_solvable`` over the steps of Proposer and Coder. A
    measure is None if the run's metrics do not hold it.
    """
    rows: Sequence[Mapping[str, Any]] = cell["rows"]
    probe: Mapping[str, Sequence[float]] = cell["probe"]

    def column(name: str, *stages: str) -> list[float | None]:
        return [row.get(name) for row in rows if row["stage"] in stages]

    def change(name: str) -> float:
        return probe[name][-1] - probe[name][0]

    paid, wrong = zip(*cell["difficulty"], strict=True) if cell["difficulty"] else ((), ())
    return {
        "solver_gain": (change("solver_easy_sampled") + change("solver_hard_sampled")) / 2,
        "silver_accuracy": mean_of(column("silver_accuracy", "solver")),
        **{f"reward_truth_{role}": mean_of(column("reward_truth", role)) for role in ROLES},
        "calibration": rank_correlation(paid, wrong),
        "diversity": last_of(column("content_type_diversity", "proposer")),
        "hack_rate": mean_of(column("false_solvable", "proposer", "coder")),
        "seconds": cell["cpu_seconds"],
        "easy_gain": change("solver_easy_sampled"),
        "hard_gain": change("solver_hard_sampled"),
        "majority_gain": change("solver_hard_majority"),
        "coder_gain": change("coder_faithful"),
        "valid_gain": change("proposer_valid"),
        "own_gain": change("proposer_own_answer"),
        "silver_accuracy_easy": mean_of(column("silver_accuracy_easy", "proposer", "coder")),
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")
