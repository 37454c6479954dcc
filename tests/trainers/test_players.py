"""Engines that sample for roles which are trained elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agents
from agents.adapters import AdapterSettings, RoleView, adapter_weights, with_adapters
from agents.policy import PolicyError, StreamingPolicy, roles_of
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES, Request, Response, Role, Sampling
from tests.trainers.test_evolve import TINY, rows
from trainers import config, evolve
from trainers.learners import make_learners
from trainers.players import EnginePlayers, Players, open_players
from trainers.progress import SilentProgress

NANO = Path(__file__).parents[2] / "agents" / "nano" / "model"


class CopyEngine:
    """Stands in for a serving engine: a second copy of the model that loads adapters from disk.

    It takes requests one at a time, like a server, and can miss updates on purpose.
    """

    name = "copy"
    max_open = 64

    def __init__(self, *, deaf_from: int = 10**9) -> None:
        base = agents.make("nano")
        self.shared = with_adapters(base, AdapterSettings(4, 8), seed=99)  # type: ignore[arg-type]
        self.loads: list[tuple[Role, str, str]] = []
        self.deaf_from = deaf_from
        self.closed = False
        self.fail = ""
        self.asked: list[str] = []

    def load_adapter(self, role: Role | tuple[Role, ...], name: str, path: str) -> None:
        assert (Path(path) / "adapter_model.safetensors").is_file()
        for each in roles_of(role):
            self.loads.append((each, name, path))
            if len(self.loads) <= self.deaf_from:
                RoleView(self.shared, each).load_adapter(Path(path))

    def score(self, request: Request, completion_ids: Sequence[int]) -> Any:
        return self.shared.score(request, completion_ids)

    def submit(self, request: Request) -> Future[Response]:
        future: Future[Response] = Future()
        self.asked.append(request.id)
        if self.fail and request.id.startswith(self.fail):
            future.set_exception(PolicyError(f"request {request.id}: the server is gone"))
        else:
            future.set_result(self.shared.generate([request])[0])
        return future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        return [self.submit(request).result() for request in requests]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine(monkeypatch) -> CopyEngine:
    made = CopyEngine()
    monkeypatch.setitem(agents.registry._REGISTERED, "copy", lambda argument: made)
    return made


def run_config(folder: Path, **overrides: str) -> config.RunConfig:
    small = {"solver.steps": "1", "coder.steps": "1", "probe.items": "6", "lora_rank": "4"}
    return config.load("nano-cpu", {**TINY, **small, **overrides, "out": str(folder)})


def views() -> dict[Role, RoleView]:
    shared = with_adapters(agents.make("nano"), AdapterSettings(4, 8), seed=1)  # type: ignore[arg-type]
    return {role: RoleView(shared, role) for role in ROLES}


def test_every_version_has_a_new_name_and_path_and_old_ones_go(tmp_path) -> None:
    engine = CopyEngine()
    players = EnginePlayers(views(), engine, tmp_path)
    assert [role for role, _, _ in engine.loads] == list(ROLES)
    assert all(players.policies[role] is engine for role in ROLES)
    reading = players.publish("coder")
    assert reading.drift < 1e-4
    names = [name for _, name, _ in engine.loads]
    paths = [path for _, _, path in engine.loads]
    assert len(set(names)) == len(set(paths)) == 4
    # What a server may still have to load again after a restart stays.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[::2], names[3]])


def test_roles_that_share_an_adapter_are_served_one_version_of_it(tmp_path) -> None:
    made = run_config(tmp_path, shared_weights="true")
    learners = make_learners(made, {})
    engine = CopyEngine()
    players = EnginePlayers(learners, engine, tmp_path, shared=True)
    for name, weight in learners["coder"].model.named_parameters():
        if "lora_B.shared" in name:
            weight.data += 0.05
    reading = players.publish("coder")
    assert reading.moved > 1e-3 > reading.drift
    assert [role for role, _, _ in engine.loads] == [*ROLES, *ROLES]
    names = [name for _, name, _ in engine.loads]
    assert len(set(names)) == 2 and names[0] == names[2] and names[3] == names[5]
    assert [path.name for path in tmp_path.iterdir()] == [names[3]]
    request = Request("r", "solver", "say it", 1, sampling=Sampling(temperature=0, max_tokens=8))
    [ours], [theirs] = (p.generate([request]) for p in (learners["solver"], engine))
    assert ours.completions[0].token_ids == theirs.completions[0].token_ids


def test_a_reader_is_another_client_with_an_adapter_that_changes_nothing(
    tmp_path, monkeypatch
) -> None:
    made: list[CopyEngine] = []

    def make(argument: str) -> CopyEngine:
        made.append(CopyEngine())
        return made[-1]

    monkeypatch.setitem(agents.registry._REGISTERED, "copy", make)
    run = run_config(
        tmp_path, policy="copy", reward_design="cycle_consistent", caption_reader="base"
    )
    learners = make_learners(run, {})
    for name, weight in learners["solver"].model.named_parameters():
        if "lora_B.solver" in name:
            weight.data += 0.05
    seen = Request("seen", "solver", "How many?", 1, image=np.zeros((8, 8, 3), np.uint8))
    read = replace(seen, id="read", image=None)
    with open_players(run, learners, print) as players:
        engine, reader = made
        assert len(engine.loads) == 3
        [(role, _, path)] = reader.loads
        weights = adapter_weights(Path(path))
        assert role == "solver" and any(weight.any() for weight in weights.values())
        assert not any(weight.any() for name, weight in weights.items() if "lora_B" in name)
        # The trained one is not touched by that.
        (trained,) = (path for role, _, path in engine.loads if role == "solver")
        assert any(w.any() for n, w in adapter_weights(Path(trained)).items() if "lora_B" in n)
        assert players.policies["solver"] is players.playing["coder"] is engine
        solver = players.playing["solver"]
        assert isinstance(solver, StreamingPolicy) and solver.max_open == engine.max_open
        futures = [solver.submit(request) for request in (seen, read)]
        assert [future.result().request_id for future in futures] == ["seen", "read"]
        assert (engine.asked[-1], reader.asked[-1]) == ("seen", "read")
    assert engine.closed and reader.closed


def test_a_reader_that_is_not_the_base_stops_the_run(tmp_path, monkeypatch) -> None:
    made: list[CopyEngine] = []

    def make(argument: str) -> CopyEngine:
        made.append(CopyEngine(deaf_from=0 if made else 10**9))
        if len(made) > 1:
            view = RoleView(made[-1].shared, "solver")
            for name, weight in view.model.named_parameters():
                if "lora_B.solver" in name:
                    weight.data += 0.05
        return made[-1]

    monkeypatch.setitem(agents.registry._REGISTERED, "copy", make)
    changes = {"reward_design": "cycle_consistent", "caption_reader": "base"}
    run = run_config(tmp_path, policy="copy", **changes)
    with (
        pytest.raises(EngineError, match="does not sample from the weights reader-"),
        open_players(run, views(), print),
    ):
        pass


def test_an_engine_that_ignores_an_update_stops_the_run(tmp_path) -> None:
    learners = views()
    players = EnginePlayers(learners, CopyEngine(deaf_from=3), tmp_path)
    for name, weight in learners["solver"].model.named_parameters():
        if "lora_B.solver" in name:
            weight.data += 0.05
    with pytest.raises(EngineError, match="does not sample from the weights solver-"):
        players.publish("solver")
    assert Players(learners).publish("solver") is None


def test_an_iteration_is_played_by_an_engine_and_trains_adapters(tmp_path, engine) -> None:
    made = run_config(tmp_path / "run", policy="copy")
    evolve.run(made, resume=False, progress=SilentProgress())
    assert engine.closed
    logged = rows(tmp_path / "run")
    assert [row["stage"] for row in logged] == ["proposer", "coder", "solver"]
    for role in ROLES:
        folder = tmp_path / "run" / "checkpoints" / "iter-1" / role
        assert sorted(path.name for path in folder.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
    # Three at the start, one after each stage.
    assert [role for role, _, _ in engine.loads] == [*ROLES, *ROLES]
    played = agents.make(f"transformers:{NANO}?adapters={tmp_path / 'run/checkpoints/iter-1'}")
    assert set(played.model.peft_config) == set(ROLES)  # type: ignore[attr-defined]


def test_a_run_goes_on_with_the_adapters_of_its_checkpoints(tmp_path, engine) -> None:
    made = run_config(tmp_path / "run", policy="copy")
    engine.fail = "i1/solver"
    with pytest.raises(EngineError, match="the server is gone"):
        evolve.run(made, resume=False, progress=SilentProgress())
    done = json.loads((tmp_path / "run/state/progress.json").read_text())["done"]
    assert done == ["0/probe", "1/proposer", "1/coder"]
    engine.fail = ""
    trained = tmp_path / "run/checkpoints/iter-1/coder/adapter_model.safetensors"
    before, loads = trained.read_bytes(), len(engine.loads)
    evolve.run(made, resume=True, progress=SilentProgress())
    assert trained.read_bytes() == before
    assert [role for role, _, _ in engine.loads[loads:]] == [*ROLES, "solver"]
    assert [row["stage"] for row in rows(tmp_path / "run")] == ["proposer", "coder", "solver"]


def test_adapters_are_trained_and_played_without_an_engine(tmp_path) -> None:
    made = run_config(tmp_path / "run")
    evolve.run(made, resume=False, progress=SilentProgress())
    assert (tmp_path / "run/checkpoints/iter-1/solver/adapter_config.json").is_file()
    assert not (tmp_path / "run/checkpoints/iter-1/solver/config.json").exists()


def test_what_cannot_be_is_said_before_a_run_directory_exists(tmp_path) -> None:
    for policy in ("vllm-engine", "scripted:oracle"):
        with pytest.raises(UserError, match=rf"policy={policy} .*--set lora_rank=16"):
            run_config(tmp_path / "run", policy=policy, lora_rank="0")
    for policy, rank in (("vllm:nano@http://h", "0"), ("vllm:nano@http://a|http://b", "4")):
        with pytest.raises(UserError, match="the servers of Proposer, Coder and Solver"):
            run_config(tmp_path / "run", policy=policy, lora_rank=rank)
    with pytest.raises(UserError, match="cannot serve what is trained here"):
        made = run_config(tmp_path / "run", policy="scripted:oracle")
        evolve.run(made, resume=False, progress=SilentProgress())
    assert not (tmp_path / "run").exists()
    with open_players(run_config(tmp_path), views(), print) as players:
        assert type(players) is Players
