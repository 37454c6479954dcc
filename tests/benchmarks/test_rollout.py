"""The simulated engine keeps its own rules, and the rollout benchmark measures with it."""

from __future__ import annotations

import json
import random
import statistics
import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import cast

import pytest

import agents
from agents.policy import StreamingPolicy
from benchmarks import rollout
from benchmarks.instant_engine import InstantEngine
from benchmarks.simulated_engine import (
    LENGTHS,
    MAX_TOKENS,
    Machine,
    PacedRenderer,
    Script,
    Servers,
    SimulatedEngine,
)
from mmzero_env.episode import EpisodeConfig
from mmzero_env.protocol import ROLES, Request, Response
from trainers.rollout import collect

PLAIN = Machine(slots=2, step=0.01, step_each=0.0, prefill=0.0)


def request(name: str, n: int = 1) -> Request:
    return Request(name, "proposer", "about: map", n=n, seed=len(name))


def lengths(response: Response) -> list[int]:
    return [len(each.token_ids) for each in response.completions]


def test_lengths_have_the_stated_means_and_a_tail_up_to_the_limit() -> None:
    rng = random.Random(0)
    for law in LENGTHS.values():
        drawn = [law.draw(rng) for _ in range(20_000)]
        assert statistics.mean(drawn) == pytest.approx(law.mean, rel=0.05)
        assert 1 <= min(drawn) and max(drawn) <= MAX_TOKENS
    assert max(drawn) > 10 * statistics.median(drawn)


def test_an_engine_decodes_what_runs_together_and_queues_the_rest() -> None:
    script, speed = Script(), 50.0
    engine = SimulatedEngine(script, PLAIN, speed=speed)
    try:
        assert isinstance(engine, StreamingPolicy)
        started = time.perf_counter()
        response = engine.submit(request("a", 4)).result(10)
        seconds = (time.perf_counter() - started) * speed
        load = engine.load()
    finally:
        engine.close()
    first, second, third, fourth = lengths(response)
    early, late = sorted((first, second))
    free = sorted((early + third, late))
    steps = max(free[1], free[0] + fourth)
    assert steps * PLAIN.step <= seconds < steps * PLAIN.step + 0.1 * speed
    assert load.tokens == sum(lengths(response))
    assert load.slot_seconds == pytest.approx(load.tokens * PLAIN.step, rel=1e-6)


def test_answers_do_not_depend_on_the_engine() -> None:
    asked = [request(name, 3) for name in ("a", "bb", "ccc")]
    expected = {each.request_id: each for each in Script(3).generate(asked)}
    engine = SimulatedEngine(Script(3), Machine(), speed=5000)
    instant = InstantEngine(Script(3), hold=2)
    both = Servers([engine, instant])
    assert both.max_open == engine.max_open + 2
    futures: list[Future[Response]] = []
    try:
        for policy in (engine, instant, both):
            futures += [policy.submit(each) for each in asked]
        done, _ = wait(futures, 20)
        assert len(done) == 9
    finally:
        both.close()
    for future in futures:
        assert future.result() == expected[future.result().request_id]
    assert lengths(Script(4).response(asked[0])) != lengths(expected["a"])


def test_a_cancelled_request_frees_its_place() -> None:
    engine = SimulatedEngine(Script(), PLAIN, speed=10)
    try:
        running = [engine.submit(request(name, 2)) for name in ("a", "bb")]
        assert running[1].cancel()
        response = running[0].result(10)
        assert engine.submit(request("ccc")).result(10)
        assert engine.load().tokens < 10 * sum(lengths(response))
    finally:
        engine.close()


def test_cut_off_codes_fail_and_whole_ones_are_drawn() -> None:
    script, renderer = Script(), PacedRenderer(speed=1e9)
    rollouts = collect(
        rollout.episodes_of(60, 0, EpisodeConfig(codes=4, answers=1)),
        dict.fromkeys(ROLES, script),
        renderer,
    )
    cut = whole = 0
    for each in rollouts:
        for name, response in each.responses.items():
            if name.endswith("/coder"):
                for completion, code in zip(response.completions, each.outcome.codes, strict=True):
                    if completion.finish_reason == "length":
                        cut += 1
                        assert not code.drawing.ok
                    whole += code.drawing.ok
    assert cut > 0 and whole > 100


def test_both_modes_are_compared_in_every_layout_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = rollout.Effort(speed=400, seeds=1, settings=((6, 16),), overhead=20)
    monkeypatch.setattr(rollout, "QUICK", small)
    rollout.main(["--quick", "--json", str(tmp_path / "figures.json")])
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert [each["layout"] for each in figures["comparisons"]] == list(rollout.LAYOUTS)
    for each in figures["comparisons"]:
        (stream,), (phases,) = each["stream"], each["phases"]
        assert 0 < stream["seconds"] and 0 < stream["busy"] <= 1
        assert 0 < phases["slots"] <= 1
    assert figures["overhead"]["requests"] > 20 * 6
    assert 0 < figures["overhead"]["collector"] <= figures["overhead"]["process"]
    assert "engine busy while streaming" in capsys.readouterr().out


def test_a_real_policy_is_compared_by_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def make(spec: str) -> StreamingPolicy:
        made.append(spec)
        return cast("StreamingPolicy", SimulatedEngine(Script(), Machine(), speed=2000))

    monkeypatch.setattr(agents, "make", make)
    path = tmp_path / "figures.json"
    rollout.main(
        [
            "--vllm",
            "nano@http://localhost:1",
            "--episodes",
            "3",
            "--seeds",
            "2",
            "--json",
            str(path),
        ]
    )
    assert made == ["vllm:nano@http://localhost:1"]
    figures = json.loads(path.read_text())["figures"]
    assert [sorted(row) for row in figures["seeds"]] == [["phases", "stream"]] * 2
    for row in figures["seeds"]:
        assert row["stream"]["policies"][0]["tokens"] == row["phases"]["policies"][0]["tokens"] > 0
    assert "times as fast" in capsys.readouterr().out


def test_a_server_is_started_compared_on_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[object] = []

    class Server:
        agent = "vllm:nano@http://localhost:2"

        def __init__(self, model: str, **options: object) -> None:
            states.append((model, options["python"]))

        def __enter__(self) -> Server:
            states.append("started")
            return self

        def __exit__(self, *error: object) -> None:
            states.append("stopped")

    def make(spec: str) -> StreamingPolicy:
        states.append(spec)
        return cast("StreamingPolicy", SimulatedEngine(Script(), Machine(), speed=2000))

    monkeypatch.setattr(rollout, "VllmProcess", Server)
    monkeypatch.setattr(agents, "make", make)
    assert rollout.main(["--serve", "some/python", "--episodes", "3", "--seeds", "2"]) == 0
    assert states == [("nano", "some/python"), "started", Server.agent, "stopped"]
