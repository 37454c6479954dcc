"""Whole models, one a role, against fake servers; a real vLLM is a tier of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.policy import PolicyError
from agents.vllm import VllmPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from tests.agents.fake_model import GENERATE
from tests.agents.fake_server import FakeServer, Step, alter, wait_for
from tests.agents.vllm_requests import NANO, ask, sampled

RPC, STEPS = "/collective_rpc", ("/pause?mode=wait", "/collective_rpc", "/resume")


@pytest.fixture
def servers(nano_tokenizer: Any) -> Iterator[list[FakeServer]]:
    fakes = [FakeServer(nano_tokenizer, base="nano", root=str(NANO)) for _ in range(3)]
    for place, fake in enumerate(fakes):
        fake.restarted(f"nano~0000000{place}")
    yield fakes
    for fake in fakes:
        assert not [text for text in fake.complaints if "while nothing is generated" in text]
        fake.stop()


@pytest.fixture
def make(servers: list[FakeServer]) -> Iterator[Callable[..., VllmPolicy]]:
    made = []

    def policy(between: str = "|", count: int = 3, **options: Any) -> VllmPolicy:
        urls = between.join(fake.url for fake in servers[:count])
        made.append(VllmPolicy(f"nano@{urls}", **{"backoff": 0.01, "retries": 2, **options}))
        return made[-1]

    yield policy
    for one in made:
        one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], str]:
    def model(name: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
        return str(tmp_path / name)

    return model


def controls(server: FakeServer) -> list[str]:
    return [seen.path for seen in server.seen if seen.path in STEPS]


def test_each_role_plays_on_servers_of_its_own_with_its_own_weights(make, servers, folder):
    policy = make()
    paths = {role: folder(role) for role in ROLES}
    for role, path in paths.items():
        policy.load_weights(role, path)
    policy.generate([ask(f"{role}/{i}", role=role) for role in ROLES for i in range(4)])
    for place, (role, path) in enumerate(paths.items()):
        assert servers[place].weights == path
        bodies = [b for b in sampled(servers[place]) if not b["request_id"].startswith("probe")]
        assert [body["request_id"].split("/")[0] for body in bodies] == [role] * 4
        assert {body["model"] for body in bodies} == {f"nano~0000000{place}"}
        assert controls(servers[place]) == list(STEPS)


def test_several_servers_of_a_role_get_the_weights_each(make, servers, folder):
    policy = make(between=",")
    policy.load_weights(ROLES, folder("one"))
    assert len({server.weights for server in servers}) == 1 and servers[0].weights
    with pytest.raises(UserError, match="the servers of coder play proposer and solver, too"):
        policy.load_weights("coder", folder("two"))


def test_open_requests_are_answered_with_the_old_weights_and_later_ones_with_the_new(
    make, servers, folder
):
    policy = make()
    policy.load_weights("solver", folder("old"))
    expected = policy.generate([ask()])
    servers[2].script(GENERATE, Step(wait=0.4))
    early = policy.submit(ask())
    wait_for(lambda: len(sampled(servers[2])) > 1)
    servers[2].script("/pause?mode=wait", Step(wait=0.6))
    policy.load_weights("solver", folder("new"))
    late = policy.generate([ask()])
    assert [early.result()] == expected != late


def test_a_server_that_was_restarted_gets_the_newest_weights_before_it_answers(
    make, servers, folder
):
    policy = make()
    policy.load_weights("solver", folder("old"))
    policy.load_weights("solver", path := folder("new"))
    before = policy.generate([ask(f"r{i}") for i in range(6)])
    # Nobody was connected while it was away.
    servers[2].restarted("nano~00000009")
    assert policy.generate([ask(f"r{i}") for i in range(6)]) == before
    assert servers[2].weights == path
    # Requests wait for it while it is away.
    servers[2].stop()
    servers[2].restarted("nano~0000000a")
    futures = [policy.submit(ask(f"r{i}")) for i in range(6)]
    wait_for(lambda: policy.usage.retries > 3)
    servers[2].start()
    assert [future.result(timeout=10) for future in futures] == before
    assert len(servers[2].asked(RPC)) == 4


def test_a_server_that_dies_while_it_loads_is_given_the_weights_again(make, servers, folder):
    policy = make()
    servers[2].script(RPC, alter(lambda answer: servers[2].restarted("nano~00000009")))
    policy.load_weights("solver", path := folder("new"))
    assert policy.generate([ask()])
    assert servers[2].weights == path and len(servers[2].asked(RPC)) == 2


def test_weights_that_a_server_does_not_take_leave_the_role_as_it_was(make, servers, folder):
    policy = make()
    policy.load_weights("solver", path := folder("old"))
    expected = policy.generate([ask()])
    with pytest.raises(PolicyError, match="no weights there.*nowhere must be a model folder"):
        policy.load_weights("solver", "nowhere")
    assert policy.generate([ask()]) == expected
    assert servers[2].weights == path
    servers[2].script(RPC, *[alter(lambda answer: {"results": ["cannot"]})] * 3)
    with pytest.raises(PolicyError, match="expected results that are null, came .*cannot"):
        policy.load_weights("solver", folder("new"))


def test_servers_that_could_not_keep_weights_are_refused(make, servers, folder):
    servers[0].dev_mode = False
    with pytest.raises(PolicyError, match="VLLM_SERVER_DEV_MODE=1"):
        make().load_weights("proposer", folder("a"))
    servers[1].started_as = ""
    with pytest.raises(PolicyError, match="Start it by mmzero serve, or with two served names"):
        make().load_weights("coder", folder("b"))
    assert not servers[1].asked("/pause?mode=wait")


def test_who_has_loaded_no_weights_does_not_play_on_after_a_restart(make, servers, folder):
    policy = make()
    assert policy.generate([ask()])
    servers[2].restarted("nano~00000009")
    with pytest.raises(PolicyError, match="was 'nano~00000002' and is 'nano~00000009' now"):
        policy.generate([ask()])


def test_mistakes_with_weights_are_named(make, folder):
    policy = make()
    policy.load_weights("solver", path := folder("one"))
    for wrong, message in (("solver", "are in use; each version"), ("judge", "unknown role")):
        with pytest.raises(UserError, match=message):
            policy.load_weights(wrong, path)
    with pytest.raises(UserError, match="adapters need one base for all"):
        policy.load_adapter("solver", "s-1", path)
    with pytest.raises(UserError, match="servers of Proposer, Coder and Solver as"):
        make(count=2)
    with pytest.raises(UserError, match="play adapters, too"):
        make(coder="given").load_weights("solver", folder("two"))
