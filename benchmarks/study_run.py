"""One run of the study: an arm with a seed, trained, measured, and kept in little room.

Kept are the scores of every probe item by iteration, the means of what every stage logged, what
the labels of the base model's own pool are worth, and a strip of pictures. A run that was
stopped goes on where it was.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell
from benchmarks.study_plan import Arm, Plan
from mmzero_env.episode import Episode, request_seed
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, TOPICS, Proposal
from mmzero_env.record_files import read_records
from mmzero_env.rendering import Renderer
from trainers import atomic
from trainers import config as configs
from trainers.progress import SilentProgress
from trainers.report import run_data
from trainers.run_config import RunConfig

SCORES = "scores.npz"
LABELS = {
    "silver_accuracy": ("solver",),
    "silver_accuracy_easy": ("proposer", "coder"),
    "false_solvable": ("proposer", "coder"),
    "content_type_diversity": ("proposer",),
    "caption_diversity": ("proposer",),
    "reward_truth_proposer": ("proposer",),
    "reward_truth_coder": ("coder",),
    "reward_truth_solver": ("solver",),
}
"""What is kept of the logged metrics, each as the mean over the steps of these stages."""

STRIP = (TOPICS[0], TOPICS[2], TOPICS[4])
"""Topics whose episodes are shown."""


def play(plan: Plan, arm: Arm, seed: int, folder: Path) -> Cell:
    """Train and measure, or go on where the run was stopped.

    Args:
        plan: The plan.
        arm: The arm.
        seed: The run's.
        folder: Run directory. Of its checkpoints those of the last iteration stay.

    Returns:
        ``settings`` of the arm, ``base`` (the labels of the base model's own pool),
        ``iterations`` (the means of :data:`LABELS` and the costs of each), ``strip``, and
        ``cpu_seconds``, None for a run that was stopped in between.

    Raises:
        UserError: If the folder holds a run with other settings.
    """
    # The loop brings torch and TRL along, which no other benchmark needs to start.
    from trainers import evolve

    began = time.process_time()
    resume = (folder / "config.json").is_file()
    config = plan.config(arm, seed, folder)
    if resume and configs.read(folder) != config:
        raise UserError(
            f"{folder} holds a run whose settings are not those of the plan's arm {arm.name!r}; "
            "delete the folder, or choose another --out"
        )
    evolve.run(config, resume=resume, progress=SilentProgress())
    measured = folder / "base-labels.json"
    if not measured.is_file():
        atomic.write_text(measured, json.dumps(base_labels(config)) + "\n")
    spent = time.process_time() - began
    cell = {
        "settings": dict(arm.settings),
        **kept(folder, config),
        "base": json.loads(measured.read_text(encoding="utf-8")),
        "cpu_seconds": None if resume else _short(spent),
    }
    _write_scores(folder, config.iterations)
    for old in range(config.iterations):
        shutil.rmtree(folder / "checkpoints" / f"iter-{old}", ignore_errors=True)
    return cell


def base_labels(config: RunConfig) -> dict[str, float | None]:
    """What the labels are worth that the base model gives itself.

    The base model proposes, draws and answers as many proposals as the Solver's pool has, and
    the design and the filters of the run choose among them: the pool that the Solver would learn
    from if no role had been trained.

    Returns:
        ``silver_accuracy`` of the questions that passed, ``silver_accuracy_easy`` and
        ``false_solvable`` of all pictures, ``content_type_diversity`` and ``caption_diversity``
        of the proposals.
    """
    import agents
    from trainers import audit, filters, pools, quantities
    from trainers.executor import LocalExecutor
    from trainers.groups import coder_groups
    from trainers.step_audit import of_episodes

    base, design = agents.make(config.model), config.design()
    name = "i0/solver"
    proposals = pools.propose(base, config, name, config.solver.pool).parsed
    shape = config.episode(codes=1, answers=config.solver.answers)
    episodes = []
    for number, proposal in enumerate(proposals):
        own = f"{name}/label/{number}"
        seed = request_seed(config.seed, own)
        episodes.append(Episode(own, proposal.content_type, seed, shape, proposal))
    with Renderer(size=config.image_size, workers=config.render_workers) as renderer:
        rollouts = LocalExecutor(renderer).play(episodes, dict.fromkeys(ROLES, base))
        rewards = design.score([episode.outcome() for episode in episodes])
        groups = coder_groups(rollouts, rewards)
        found = of_episodes("coder", rollouts, rewards, groups, renderer, design)
    outcomes = [rollout.outcome for rollout in rollouts]
    rows = filters.solver_prompts(outcomes, rewards, config.filters, design)
    return {
        "silver_accuracy": audit.share_right((r.proposal, "hard", r.label) for r in rows),
        "silver_accuracy_easy": found["silver_accuracy_easy"],
        "false_solvable": found["false_solvable"],
        "pool": float(len(rows)),
        **quantities.of_proposals(proposals),
    }


def kept(run: Path, config: RunConfig) -> dict[str, Any]:
    """The means of every iteration of a finished run, and its strip."""
    found = run_data.load(run)
    by_iteration: dict[int, list[run_data.MetricRow]] = defaultdict(list)
    for row in found.rows:
        by_iteration[row.iteration].append(row)
    return {
        "iterations": [
            _means(by_iteration[number], config) for number in range(1, config.iterations + 1)
        ],
        "strip": strip(run, config.iterations),
    }


def _means(rows: Sequence[run_data.MetricRow], config: RunConfig) -> dict[str, float | None]:
    """Of one iteration: means of :data:`LABELS`, and what it cost."""
    means: dict[str, float | None] = {}
    for name, stages in LABELS.items():
        metric = "reward_truth" if name.startswith("reward_truth") else name
        values = [row.values.get(metric) for row in rows if row.stage in stages]
        known = [value for value in values if value is not None]
        means[name] = float(np.mean(known)) if known else None
    pools = [row.values["pool"] for row in rows if "pool" in row.values]
    means["pool"] = pools[0] if pools else None
    completions, tokens, seconds = 0.0, 0.0, 0.0
    for row in rows:
        groups = sum(row.values.get(f"groups_{fate}", 0.0) for fate in ("used", "dropped"))
        sizes = [config.stage(role).group_size for role in ROLES if role == row.stage]
        trained = groups * sum(sizes)
        completions += trained
        tokens += trained * row.values.get("completion_length", 0.0)
        seconds += sum(row.values.get(f"seconds_{part}", 0.0) for part in ("rollout", "train"))
    means |= {"trained_completions": completions, "trained_tokens": tokens, "seconds": seconds}
    return {name: None if value is None else _short(value) for name, value in means.items()}


def strip(run: Path, iterations: int) -> list[dict[str, Any]]:
    """Episodes on the same topics across the iterations, picked by their place.

    Returns:
        For every topic of :data:`STRIP` the first episode with a picture that the base model
        proposed, and the last one of every iteration: ``topic``, ``iteration``, ``svg``,
        ``caption``, both questions and the hard question's ``label``; without ``svg`` where no
        episode of the topic has a picture.
    """
    cells = []
    for iteration in range(1, iterations + 1):
        path = run / "episodes" / f"iter-{iteration}-proposer.jsonl"
        if not path.exists():
            continue  # A Proposer that is not trained has none.
        first: dict[str, dict[str, Any]] = {}
        last: dict[str, dict[str, Any]] = {}
        for record in read_records(path):
            drawn = [c for c in record["codes"] if c["png"] is not None and c["form"] == "svg"]
            if record["topic"] not in STRIP or record["proposal"] is None or not drawn:
                continue
            proposal = Proposal(**record["proposal"])
            seen = {
                "caption": proposal.caption,
                "easy_question": proposal.easy_question,
                "hard_question": proposal.hard_question,
                "svg": drawn[0]["code"],
            }
            first.setdefault(record["topic"], seen)
            last[record["topic"]] = seen
        for topic in STRIP:
            if iteration == 1:
                cells.append({"topic": topic, "iteration": 0, **first.get(topic, {})})
            cells.append({"topic": topic, "iteration": iteration, **last.get(topic, {})})
    return cells


def _write_scores(run: Path, iterations: int) -> None:
    """All scores of the probe in one file: by metric, (iterations + 1, items)."""
    stacked: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for iteration in range(iterations + 1):
        with np.load(run / "state" / f"probe-{iteration}.npz") as file:
            for name in file:
                stacked[name].append(file[name])
    content = io.BytesIO()
    arrays: Any = {name: np.stack(each).astype(np.float32) for name, each in stacked.items()}
    np.savez_compressed(content, **arrays)
    atomic.write_bytes(run / SCORES, content.getvalue())


def read_scores(path: Path) -> Mapping[str, NDArray[np.float64]]:
    """By metric, scores of shape (iterations + 1, items), float64."""
    with np.load(path) as file:
        return {name: file[name].astype(np.float64) for name in file}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
