"""The self-evolution loop: Proposer, Coder and Solver train each other, iteration by iteration.

    mmzero evolve --preset nano-cpu

Iteration i trains the Proposer with the Coder and the Solver of iteration i - 1 as
its judges, then the Coder on the new Proposer's proposals, judged by the *Solver*
(the published script loads the Coder there by mistake), then the Solver on what the
other two now produce. All three start from one base model. The probe measures the
truth before the first and after every iteration; nothing is ever trained on it.

The unit of resume is a stage: finished stages are kept, an interrupted one starts
again from its beginning and comes out the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

import agents
from agents.probe import Estimate, Probe, Scores
from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import ROLES, Role
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from mmzero_env.world.probe import probe_items
from trainers import checkpoints, stages
from trainers import config as configs
from trainers.config import RunConfig
from trainers.evaluate import scores
from trainers.learner import Learner, is_learner
from trainers.progress import Progress
from trainers.run_log import RunLog, write_atomically

PROBE = "probe"


def run(config: RunConfig, *, resume: bool, progress: Progress) -> None:
    """Run the loop to its end, or go on where it stopped.

    Args:
        config: The run; ``config.out`` is created unless it is resumed.
        resume: Go on with the run in ``config.out``.
        progress: Is told what happens.

    Raises:
        UserError: If the model cannot be trained here or the run's files are damaged.
        EngineError: If something of ours failed; finished stages are on disk.
    """
    folder = Path(config.out)
    torch.set_num_threads(config.threads)
    quiet_transformers()
    if resume:
        log = RunLog(folder, progress)
        log.resume()
        policies = {role: _policy(config, log, role) for role in ROLES}
    else:
        # Loaded first: a model that cannot be trained must not leave a run directory behind.
        policies = {role: _base(config) for role in ROLES}
        log = RunLog(folder, progress)
        configs.save(config, folder)
    memory = _memory(config, log)
    names = (*ROLES, PROBE)
    first = 1 + sum(part.endswith(f"/{PROBE}") and part != f"0/{PROBE}" for part in log.done)
    progress.start(config.iterations, names, min(first, config.iterations))
    with (
        Renderer(size=config.image_size, workers=config.render_workers) as renderer,
        Renderer(size=SIDE, workers=config.render_workers) as probe_renderer,
    ):
        probe = Probe(
            probe_items(config.probe.items, config.probe.seed),
            get_prompts(config.prompts),
            probe_renderer,
            samples=config.probe.samples,
        )
        if f"0/{PROBE}" not in log.done:
            _measure(0, policies, probe, log, progress)
        for iteration in range(1, config.iterations + 1):
            for role in ROLES:
                if f"{iteration}/{role}" in log.done:
                    continue
                progress.stage(iteration, role, config.stage(role).steps)
                stage = stages.Stage(
                    iteration=iteration,
                    role=role,
                    config=config,
                    policies=policies,
                    renderer=renderer,
                    design=config.design(),
                    memory=memory,
                    log=log,
                    note=progress.note,
                )
                if config.stage(role).steps:
                    stages.run(stage)
                checkpoints.save(policies[role], checkpoints.folder(folder, iteration, role))
                if role == "proposer":
                    _save_memory(log, iteration, memory)
                log.finish(f"{iteration}/{role}")
            if f"{iteration}/{PROBE}" not in log.done:
                _measure(iteration, policies, probe, log, progress)


def quiet_transformers() -> None:
    """Silence bars for every saved file and notes on tokens, which would drown our progress."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _base(config: RunConfig) -> Learner:
    """The model that a role starts from."""
    policy = agents.make(config.model)
    if not is_learner(policy):
        why = getattr(policy, "untrainable", "it has no weights here")
        raise UserError(
            f"model {config.model!r} cannot be trained: {why}. Expected an agent with weights, "
            "such as nano or transformers:PATH-or-ID."
        )
    return policy


def _policy(config: RunConfig, log: RunLog, role: Role) -> Learner:
    """The role's newest checkpoint, or the base model."""
    done = [int(part.split("/")[0]) for part in log.done if part.endswith(f"/{role}")]
    if not done:
        return _base(config)
    path = checkpoints.folder(log.folder, max(done), role)
    policy = agents.make(f"transformers:{checkpoints.require(path)}")
    assert is_learner(policy), "a transformers policy has weights"
    return policy


def _memory_path(log: RunLog, iteration: int) -> Path:
    return log.folder / "state" / f"captions-{iteration}.json"


def _memory(config: RunConfig, log: RunLog) -> CaptionMemory:
    """The captions of the Proposer's stages that are finished."""
    memory = CaptionMemory(max(1, config.design().constants.memory_steps))
    done = [int(part.split("/")[0]) for part in log.done if part.endswith("/proposer")]
    if done:
        path = _memory_path(log, max(done))
        try:
            memory.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, UserError) as error:
            raise UserError(f"{path} is damaged: {error}") from error
    return memory


def _save_memory(log: RunLog, iteration: int, memory: CaptionMemory) -> None:
    text = json.dumps(memory.state_dict()) + "\n"
    write_atomically(_memory_path(log, iteration), text)


def _measure(
    iteration: int,
    policies: Mapping[Role, Learner],
    probe: Probe,
    log: RunLog,
    progress: Progress,
) -> None:
    progress.stage(iteration, PROBE, 1)
    found = scores(policies, probe)
    path = log.folder / "state" / f"probe-{iteration}.npz"
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(found))
    _write_probe(log.folder, iteration)
    log.finish(f"{iteration}/{PROBE}")
    progress.step()


def _write_probe(folder: Path, last: int) -> None:
    """``probe.json`` from the scores of all iterations so far."""
    measured: list[Scores] = []
    for iteration in range(last + 1):
        with np.load(folder / "state" / f"probe-{iteration}.npz") as file:
            measured.append(dict(file))
    names = list(measured[0])
    table = {
        "iterations": list(range(last + 1)),
        "metrics": {n: [asdict(Estimate.share(found[n])) for found in measured] for n in names},
        "change": {
            n: [asdict(Estimate.change(measured[0][n], found[n])) for found in measured]
            for n in names
        },
    }
    write_atomically(folder / "probe.json", json.dumps(table, indent=2) + "\n")
