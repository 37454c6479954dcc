"""Stages over policies that stream, and what is left of one that failed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from agents.policy import Policy, PolicyError
from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.protocol import Request, Response, Role
from mmzero_env.record import read_records
from mmzero_env.rendering import Renderer
from mmzero_env.world import players
from tests.trainers.rollout_players import Player, Streamer
from trainers import config, stages
from trainers.players import Players
from trainers.pools import propose, render_rates
from trainers.progress import SilentProgress
from trainers.rollout import RolloutError
from trainers.run_log import RunLog
from trainers.stage_state import StageStore


class Batched(Player):
    """The scripted noisy player, with tokens."""

    def text(self, request: Request, i: int) -> str:
        return _written(request, i)


class Streaming(Streamer):
    """The same, streaming."""

    def text(self, request: Request, i: int) -> str:
        return _written(request, i)


def _written(request: Request, i: int) -> str:
    return players.NoisyPlay(0.8)(request, random.Random(f"{request.seed}/{i}"))


def stage_of(
    folder: Path, role: Role, policy: Policy, renderer: Renderer, **changes: str
) -> stages.Stage:
    settings = {"solver.pool": "24", "coder.pool": "12", "seed": "5", **changes}
    filters = {"filters.render_high": "1.0", "filters.hard_high": "1.0"}
    made = config.load("nano-cpu", {"out": str(folder), **settings, **filters})
    return stages.Stage(
        iteration=1,
        kind=role,
        config=made,
        learners=cast("Any", dict.fromkeys(("proposer", "coder", "solver"), policy)),
        players=Players(cast("Any", dict.fromkeys(("proposer", "coder", "solver"), policy))),
        renderer=renderer,
        design=made.design(),
        memory=CaptionMemory(1),
        log=RunLog(folder, SilentProgress()),
        store=StageStore(folder),
        resumed=None,
        note=lambda text: None,
    )


def test_pools_are_the_same_whether_a_policy_streams_or_not(tmp_path: Path) -> None:
    made = config.load("nano-cpu", {"out": str(tmp_path)})
    with Renderer(size=32, workers=0) as renderer:

        def pool(policy: Policy) -> tuple[Any, list[float]]:
            proposals = propose(policy, made, "i1/coder", 30)
            return proposals, render_rates(policy, renderer, made, "i1/coder", proposals.parsed, 4)

        expected = pool(Batched())
        with Streaming(1, max_open=5, delay=0.001) as policy:
            assert pool(policy) == expected
    rates = expected[1]
    assert 0 < sum(rates) < len(rates) == len(expected[0].parsed) <= 30


@pytest.mark.parametrize("role", ["proposer", "coder", "solver"])
def test_the_groups_of_a_stage_are_the_same_and_its_seconds_are_told(
    role: Role, tmp_path: Path
) -> None:
    def first_step(policy: Policy, folder: Path) -> tuple[str, Mapping[str, float | None]]:
        with Renderer(size=32, workers=0) as renderer:
            prompts = stages._PROMPTS[role](stage_of(folder, role, policy, renderer))
            assert prompts is not None
            groups, metrics = prompts.collect(0)
        text = [repr((g.request.id, g.request.prompt, g.response, g.rewards)) for g in groups]
        return "\n".join(text), metrics

    expected, waves = first_step(Batched(), tmp_path / "waves")
    with Streaming(2, delay=0.0005) as policy:
        found, metrics = first_step(policy, tmp_path / "streams")
    assert found == expected
    assert metrics.keys() == waves.keys()
    steady = {key: value for key, value in metrics.items() if not key.startswith("seconds_")}
    assert steady == {k: v for k, v in waves.items() if not k.startswith("seconds_")}
    assert {"seconds_drawing", "seconds_overhead"} < metrics.keys()
    assert any(key.startswith("seconds_engine_busy/") for key in metrics)
    for name in ("waves", "streams"):
        path = tmp_path / name / "episodes" / f"iter-1-{role}.jsonl"
        assert path.exists() or role == "coder"


@pytest.mark.parametrize("role", ["proposer", "coder", "solver"])
def test_blind_questions_change_nothing_but_their_own_metric(role: Role, tmp_path: Path) -> None:
    def two_steps(items: str) -> list[tuple[str, dict[str, float | None]]]:
        changes = {"monitor.blind_items": items, "monitor.blind_every": "2"}
        policy = Batched()
        with Renderer(size=32, workers=0) as renderer:
            stage = stage_of(tmp_path / items, role, policy, renderer, **changes)
            prompts = stages._PROMPTS[role](stage)
            assert prompts is not None
            found = [prompts.collect(step) for step in (0, 1)]
        return [
            (
                repr([(g.request.id, g.request.seed, g.response, g.rewards) for g in groups]),
                {k: v for k, v in metrics.items() if not k.startswith("seconds_")},
            )
            for groups, metrics in found
        ]

    plain, watched = two_steps("0"), two_steps("6")
    assert [metrics.pop("blind_solvable") for _, metrics in plain] == [None, None]
    first, second = [metrics.pop("blind_solvable") for _, metrics in watched]
    assert first is not None and 0 <= first <= 1 and second is None
    assert watched == plain


class Dying(Streaming):
    """Its server goes down after so many answers."""

    def respond(self, request: Request) -> Response:
        if len(self.answered) > 55:
            raise PolicyError("the server is gone")
        return super().respond(request)


def test_a_stage_that_fails_leaves_the_episodes_that_were_finished(tmp_path: Path) -> None:
    with Dying(max_open=4) as policy, Renderer(size=32, workers=0) as renderer:
        with pytest.raises(RolloutError, match="failed at request .* the server is gone") as caught:
            stages.run(stage_of(tmp_path, "solver", policy, renderer))
        assert policy.left_open() == []
    records = list(read_records(tmp_path / "episodes" / "iter-1-solver.jsonl"))
    assert len(records) == caught.value.finished > 0
    assert {record["population"] for record in records} == {len(records)}
    resumed = RunLog(tmp_path, SilentProgress())
    resumed.read()
    resumed.cut_back(None)
    assert resumed.done == [] and not (tmp_path / "episodes" / "iter-1-solver.jsonl").exists()
