"""Engines that play each role with a whole model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

import agents
from agents.policy import roles_of
from mmzero_env.errors import EngineError
from mmzero_env.protocol import ROLES, Request, Response, Role
from tests.trainers.test_evolve import TINY
from trainers import config, evolve, players
from trainers.players import EnginePlayers
from trainers.progress import SilentProgress


class ModelsEngine:
    """Stands in for servers: copies of the model, loaded from folders. Can miss updates."""

    name = "models"
    max_open = 64

    def __init__(self, *, deaf_from: int = 10**9) -> None:
        self.copies: dict[Role, Any] = {role: agents.make("nano") for role in ROLES}
        self.loads: list[tuple[tuple[Role, ...], str]] = []
        self.deaf_from = deaf_from
        self.there: list[str] = []

    def load_weights(self, role: Role | tuple[Role, ...], path: str) -> None:
        self.loads.append((roles_of(role), path))
        self.there = sorted(each.name for each in Path(path).parent.iterdir())
        if len(self.loads) <= self.deaf_from:
            for each in roles_of(role):
                self.copies[each] = agents.make(f"transformers:{path}")

    def score(self, request: Request, completion_ids: Sequence[int]) -> Any:
        return self.copies[request.role].score(request, completion_ids)

    def submit(self, request: Request) -> Future[Response]:
        future: Future[Response] = Future()
        future.set_result(self.copies[request.role].generate([request])[0])
        return future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        return [self.submit(request).result() for request in requests]

    def close(self) -> None:
        pass


def learn(learner: Any) -> None:
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight *= 1.01


def test_each_role_is_written_and_loaded_as_a_model_and_old_versions_go(tmp_path) -> None:
    learners: dict[Role, Any] = {role: agents.make("nano") for role in ROLES}
    engine = ModelsEngine()
    made = EnginePlayers(learners, engine, tmp_path)
    assert [roles for roles, _ in engine.loads] == [(role,) for role in ROLES]
    learn(learners["coder"])
    reading = made.publish("coder")
    assert reading.drift < 1e-4 < reading.moved
    assert (Path(engine.loads[3][1]) / "model.safetensors").is_file()
    assert len({path for _, path in engine.loads}) == 4
    assert len(list(tmp_path.iterdir())) == 3


def test_a_model_that_all_roles_share_is_loaded_once(tmp_path) -> None:
    one = agents.make("nano")
    engine = ModelsEngine()
    made = EnginePlayers(dict.fromkeys(ROLES, one), engine, tmp_path, shared=True)
    learn(one)
    assert made.publish("solver").drift < 1e-4
    assert [roles for roles, _ in engine.loads] == [ROLES, ROLES]


def test_servers_that_miss_an_update_stop_the_run(tmp_path) -> None:
    learners: dict[Role, Any] = {role: agents.make("nano") for role in ROLES}
    made = EnginePlayers(learners, ModelsEngine(deaf_from=3), tmp_path)
    learn(learners["solver"])
    with pytest.raises(EngineError, match="does not sample from the weights solver-"):
        made.publish("solver")


def test_the_precision_of_the_engine_decides_what_is_rounding(tmp_path) -> None:
    learners: dict[Role, Any] = {role: agents.make("nano") for role in ROLES}
    made = EnginePlayers(learners, ModelsEngine(), tmp_path, dtype="bfloat16")
    assert made.publish("coder").bound == 2e-2


def test_an_iteration_with_a_model_a_role_leaves_nothing_beside_the_run(
    tmp_path, monkeypatch
) -> None:
    engine = ModelsEngine()
    monkeypatch.setattr(players, "_engine", lambda *_: (engine, "models"))
    left = tmp_path / ".run-weights" / "solver-of-a-run-that-was-killed"
    left.mkdir(parents=True)
    small = {"solver.steps": "1", "coder.steps": "1", "probe.items": "6"}
    policy = "vllm:nano@http://a|http://b|http://c"
    settings = {**TINY, **small, "policy": policy, "out": str(tmp_path / "run")}
    made = config.load("nano-cpu", settings)
    assert made.whole and made.models == 3
    evolve.run(made, resume=False, progress=SilentProgress())
    assert [roles for roles, _ in engine.loads] == [(role,) for role in (*ROLES, *ROLES)]
    assert len(engine.there) == 4 and left.name not in engine.there
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    for role in ROLES:
        assert (tmp_path / "run/checkpoints/iter-1" / role / "model.safetensors").is_file()


def test_servers_with_whole_models_take_the_gpus_that_training_leaves() -> None:
    whole = config.load("nano-cpu", {"policy": "vllm", "serve.tensor_parallel": "2"})
    assert players._gpus(whole, 8) == [2, 3, 4, 5, 6, 7]
    assert players._gpus(whole, 6) == players._gpus(whole, 0) == []
    assert config.load("nano-cpu", {"policy": "vllm", "shared_weights": "true"}).models == 1
    adapters = config.load("nano-cpu", {"policy": "vllm", "lora_rank": "8"})
    assert players._gpus(adapters, 8) == [] and adapters.models == 1
