"""The self-evolution loop: Proposer, Coder and Solver train each other, iteration by iteration.

    mmzero evolve --preset nano-cpu

Iteration i trains the Proposer with the Coder and the Solver of iteration i - 1 as
its judges, then the Coder on the new Proposer's proposals, judged by the *Solver*
(the published script loads the Coder there by mistake), then the Solver on what the
other two now produce. All three start from one base model. The probe measures the
truth before the first and after every iteration; nothing is ever trained on it.
With ``mode = "simultaneous"`` all three learn from the same episodes instead.

A run that was killed at any moment goes on from the last saved step of its unfinished stage
(:mod:`trainers.stage_state`) and comes out as if nothing had happened.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from agents.probe import Estimate, Probe, Scores
from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import ROLES, Role
from mmzero_env.world.probe import probe_items
from trainers import atomic, checkpoints, followers, joint_stage, stages, standing
from trainers import config as configs
from trainers.evaluate import scores
from trainers.learner import Learner
from trainers.learners import make_learners
from trainers.monitors import Watch
from trainers.players import Players, open_players
from trainers.progress import Progress
from trainers.ranks import ALONE, Ranks
from trainers.rollback import decide
from trainers.run_config import SIMULTANEOUS, RunConfig
from trainers.run_log import RunLog
from trainers.stage_state import StageStore
from trainers.standing import PROBE
from trainers.trackers import open_trackers, require_trackers
from trainers.venue import Venue, open_venue


def run(config: RunConfig, *, resume: bool, progress: Progress, ranks: Ranks = ALONE) -> None:
    """Run the loop to its end, or go on where it stopped.

    Args:
        config: The run; ``config.out`` is created unless it is resumed.
        resume: Go on with the run in ``config.out``.
        progress: Is told what happens.
        ranks: The processes that train. The main one runs the loop, and it alone reads and
            writes ``config.out``.

    Raises:
        UserError: If the model cannot be trained here or the run's files are damaged.
        EngineError: If something of ours failed; finished stages are on disk.
    """
    torch.set_num_threads(config.threads)
    quiet_transformers()
    if ranks.is_main:
        with followers.leading(ranks):
            _lead(config, resume, progress, ranks)
    else:
        # Newer weights come from the main rank when they are needed.
        followers.follow(_learners(config, {}, ranks), ranks)


def _lead(config: RunConfig, resume: bool, progress: Progress, ranks: Ranks) -> None:
    followers.check(config, ranks)
    require_trackers(config.trackers)
    folder = Path(config.out)
    with ExitStack() as stack:
        store = StageStore(folder)
        if resume:
            log = RunLog(folder, progress, Watch(config.monitor))
            _go_back(log, store)
            learners = _learners(config, standing.weights(config, log), ranks)
            players = stack.enter_context(open_players(config, learners, progress.note))
            venue = stack.enter_context(open_venue(config, players.specs, progress.note))
        else:
            # Loaded first: a model that cannot be trained or an engine that does not start
            # must not leave a run directory behind.
            learners = _learners(config, {}, ranks)
            players = stack.enter_context(open_players(config, learners, progress.note))
            venue = stack.enter_context(open_venue(config, players.specs, progress.note))
            configs.save(config, folder)
            log = RunLog(folder, progress, Watch(config.monitor))
        if not log.done:
            standing.keep_base(config, learners, folder)
        log.trackers = stack.enter_context(open_trackers(config, log.rows(), progress.note))
        probe = Probe(
            probe_items(config.probe.items, config.probe.seed),
            get_prompts(config.prompts),
            venue.probe_renderer,
            samples=config.probe.samples,
            forms=config.code_forms,
        )
        _iterate(_Run(config, learners, players, venue, probe, log, store, progress, ranks))


def _learners(
    config: RunConfig, finished: Mapping[Role, Path], ranks: Ranks
) -> dict[Role, Learner]:
    return make_learners(replace(config, device="cpu") if ranks.host else config, finished)


@dataclass(frozen=True)
class _Run:
    """What a run is made of once everything is loaded and started."""

    config: RunConfig
    learners: Mapping[Role, Learner]
    players: Players
    venue: Venue
    probe: Probe
    log: RunLog
    store: StageStore
    progress: Progress
    ranks: Ranks


def _go_back(log: RunLog, store: StageStore) -> None:
    """Take the run directory back to what was last saved."""
    log.read()
    for part in log.done:
        # The run may have been killed between the end of a stage and its clearing up.
        store.forget(part)
    state = store.unfinished()
    log.cut_back(None if state is None else state.files)
    log.watch_again()


def _iterate(run: _Run) -> None:
    """Every stage and every measurement that is not done yet."""
    config, log = run.config, run.log
    memory = _memory(config, log)
    first = 1 + sum(part.endswith(f"/{PROBE}") and part != f"0/{PROBE}" for part in log.done)
    run.progress.start(config.iterations, (*config.stages, PROBE), min(first, config.iterations))
    if f"0/{PROBE}" not in log.done:
        _measure(0, run)
    for iteration in range(1, config.iterations + 1):
        if not _may_begin(iteration, run, memory):
            return
        for kind in config.stages:
            if f"{iteration}/{kind}" not in log.done:
                _train(iteration, kind, run, memory)
        if f"{iteration}/{PROBE}" not in log.done:
            _measure(iteration, run)


def _may_begin(iteration: int, run: _Run, memory: CaptionMemory) -> bool:
    """What the iteration before decides: to go on, to go on from an earlier one, to stop."""
    if iteration == 1 or any(part.startswith(f"{iteration}/") for part in run.log.done):
        return True
    verdict = decide(run.log.rows(), run.config.monitor, iteration - 1)
    if verdict.action == "go_on":
        return True
    best = f"iteration {verdict.best}" if verdict.best else "the base model"
    if verdict.action == "stop":
        run.progress.note(f"{verdict.reason}. The run stops; the best weights are those of {best}.")
        return False
    run.progress.note(f"{verdict.reason}. Iteration {iteration} starts from {best}.")
    standing.put_back(run.config, run.learners, run.log.folder, verdict.best)
    _recall(memory, run.log, verdict.best)
    for role in ROLES:
        run.players.publish(role)
    return True


def _train(iteration: int, kind: str, run: _Run, memory: CaptionMemory) -> None:
    """One stage, and its checkpoints."""
    part = f"{iteration}/{kind}"
    resumed = run.store.load(part)
    if resumed is None:
        # Prompts without a state: the run was killed while they were being collected.
        run.store.forget(part)
    else:
        memory.load_state_dict(resumed.memory)
    steps = run.config.steps(kind)
    run.progress.stage(iteration, kind, steps, 0 if resumed is None else resumed.steps)
    stage = stages.Stage(
        iteration=iteration,
        kind=kind,
        config=run.config,
        learners=run.learners,
        players=run.players,
        renderer=run.venue.renderer,
        design=run.config.design(),
        memory=memory,
        log=run.log,
        store=run.store,
        resumed=resumed,
        note=run.progress.note,
        ranks=run.ranks,
        executor=run.venue.executor,
    )
    roles = ROLES if kind == SIMULTANEOUS else (stage.role,)
    if steps:
        train = joint_stage.run if kind == SIMULTANEOUS else stages.run
        train(stage)
    for role in roles:
        checkpoints.save(run.learners[role], checkpoints.folder(run.log.folder, iteration, role))
    if "proposer" in roles:
        _save_memory(run.log, iteration, memory)
    run.log.finish(part)
    run.store.forget(part)
    # After everything is on disk: an engine that is gone by now costs nothing but a resume.
    for role in roles:
        run.players.publish(role)


def quiet_transformers() -> None:
    """Silence bars for every saved file and notes on tokens, which would drown our progress."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _memory_path(log: RunLog, iteration: int) -> Path:
    return log.folder / "state" / f"captions-{iteration}.json"


def _memory(config: RunConfig, log: RunLog) -> CaptionMemory:
    """The captions of the Proposer's stages that led to its weights."""
    memory = CaptionMemory(max(1, config.design().constants.memory_steps))
    _recall(memory, log, standing.iteration_of(config, log, "proposer"))
    return memory


def _recall(memory: CaptionMemory, log: RunLog, iteration: int) -> None:
    """Fill the memory with what it held after an iteration's Proposer stage."""
    if not iteration:
        memory.load_state_dict(CaptionMemory().state_dict())
        return
    path = _memory_path(log, iteration)
    try:
        memory.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _save_memory(log: RunLog, iteration: int, memory: CaptionMemory) -> None:
    text = json.dumps(memory.state_dict()) + "\n"
    atomic.write_text(_memory_path(log, iteration), text)


def _measure(iteration: int, run: _Run) -> None:
    run.progress.stage(iteration, PROBE, 1)
    found = scores(run.players.policies, run.probe)
    path = run.log.folder / "state" / f"probe-{iteration}.npz"
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **dict(found))
    atomic.write_bytes(path, content.getvalue())
    _write_probe(run.log.folder, iteration)
    run.log.finish(f"{iteration}/{PROBE}")
    run.progress.step()


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
    atomic.write_text(folder / "probe.json", json.dumps(table, indent=2) + "\n")
