"""Against fake servers; the tests with a real vLLM are a tier of their own."""

from __future__ import annotations

import pytest

from agents.policy import PolicyError
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from tests.agents.fake_model import GENERATE
from tests.agents.fake_server import Step, error, wait_for
from tests.agents.vllm_requests import ask, sampled

LOAD = "/v1/load_lora_adapter"


def test_each_role_plays_with_its_own_adapter_on_every_server(make_vllm, vllm_servers, tmp_path):
    policy = make_vllm(count=2)
    for role in ("proposer", "coder"):
        policy.load_adapter(role, f"{role}-1", str(tmp_path / role))
    assert dict(policy.adapters) == {"proposer": "proposer-1", "coder": "coder-1"}
    policy.generate([ask(f"{role}/{i}", role=role) for role in ROLES for i in range(8)])
    for server in vllm_servers:
        assert server.adapters == {
            "proposer-1": str(tmp_path / "proposer"),
            "coder-1": str(tmp_path / "coder"),
        }
        used = {body["request_id"].split("/")[0]: body["model"] for body in sampled(server)}
        assert used == {"proposer": "proposer-1", "coder": "coder-1", "solver": "nano"}


def test_an_old_adapter_is_unloaded_when_its_last_request_is_answered(
    make_vllm, vllm_server, tmp_path
):
    policy = make_vllm()
    policy.load_adapter("solver", "s-1", str(tmp_path / "1"))
    vllm_server.script(GENERATE, Step(wait=0.5))
    slow = policy.submit(ask("slow"))
    wait_for(lambda: sampled(vllm_server))
    policy.load_adapter("solver", "s-2", str(tmp_path / "2"))
    policy.generate([ask("new")])
    assert set(vllm_server.adapters) == {"s-1", "s-2"} and not slow.done()
    assert slow.result(timeout=5).request_id == "slow"
    wait_for(lambda: set(vllm_server.adapters) == {"s-2"})
    assert [body["model"] for body in sampled(vllm_server)] == ["s-1", "s-2"]


def test_one_adapter_plays_several_roles_and_goes_when_the_last_has_left(
    make_vllm, vllm_server, tmp_path
):
    policy = make_vllm()
    policy.load_adapter(ROLES, "all-1", str(tmp_path / "1"))
    policy.generate([ask(f"{role}/0", role=role) for role in ROLES])
    assert [body["model"] for body in sampled(vllm_server)] == ["all-1"] * 3
    policy.load_adapter(("proposer", "coder"), "two-1", str(tmp_path / "2"))
    assert set(vllm_server.adapters) == {"all-1", "two-1"}
    policy.load_adapter("solver", "s-1", str(tmp_path / "3"))
    wait_for(lambda: set(vllm_server.adapters) == {"two-1", "s-1"})
    with pytest.raises(UserError, match="unknown role 'judge'"):
        policy.load_adapter(("coder", "judge"), "b-1", str(tmp_path / "4"))


def test_adapters_that_a_restart_has_lost_are_loaded_again(make_vllm, vllm_server, tmp_path):
    policy = make_vllm()
    for role in ("coder", "solver"):
        policy.load_adapter(role, f"{role}-1", str(tmp_path / role))
    before = policy.generate([ask(f"r{i}") for i in range(6)])
    vllm_server.stop()
    vllm_server.adapters.clear()
    futures = [policy.submit(ask(f"r{i}")) for i in range(6)]
    wait_for(lambda: policy.usage.retries > 3)
    vllm_server.start()
    assert [future.result(timeout=10) for future in futures] == before
    assert set(vllm_server.adapters) == {"coder-1", "solver-1"}


def test_a_client_follows_another_one_and_gives_a_server_back_what_it_lost(
    make_vllm, vllm_server, tmp_path
):
    leader, follower = make_vllm(), make_vllm()
    for version in ("s-1", "s-2"):
        leader.load_adapter("solver", version, str(tmp_path / version))
        follower.follow(leader.served)
        assert dict(follower.adapters) == {"solver": version}
        vllm_server.adapters.clear()
        assert len(follower.generate([ask(f"{version}/{i}") for i in range(4)])) == 4
        assert vllm_server.adapters == {version: str(tmp_path / version)}
    used = {body["request_id"]: body["model"] for body in sampled(vllm_server)}
    assert used == {f"{version}/{i}": version for version in ("s-1", "s-2") for i in range(4)}
    with pytest.raises(UserError, match="role"):
        follower.follow({"critic": ("s-2", "x")})


def test_adapters_that_vanish_without_a_restart_are_loaded_again(make_vllm, vllm_server, tmp_path):
    policy = make_vllm()
    policy.load_adapter("solver", "s-1", str(tmp_path / "1"))
    vllm_server.adapters.clear()
    assert len(policy.generate([ask(f"r{i}") for i in range(6)])) == 6
    assert len(vllm_server.asked(LOAD)) == 2


def test_a_role_is_not_switched_when_one_server_refuses_the_adapter(
    make_vllm, vllm_servers, tmp_path
):
    policy = make_vllm(count=2)
    policy.load_adapter("solver", "s-1", str(tmp_path / "1"))
    vllm_servers[1].script(LOAD, error(404, "Loading lora s-2 failed: No adapter found"))
    with pytest.raises(PolicyError, match="No adapter found.*readable where the server runs"):
        policy.load_adapter("solver", "s-2", str(tmp_path / "2"))
    assert dict(policy.adapters) == {"solver": "s-1"}
    wait_for(lambda: set(vllm_servers[0].adapters) == {"s-1"})
    policy.generate([ask(f"r{i}") for i in range(8)])
    policy.load_adapter("solver", "s-2", str(tmp_path / "2"))
    assert dict(policy.adapters) == {"solver": "s-2"}


def test_a_server_without_run_time_adapters_says_how_to_start_it(make_vllm, vllm_server, tmp_path):
    vllm_server.runtime_lora = False
    with pytest.raises(PolicyError, match="--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        make_vllm().load_adapter("solver", "s-1", str(tmp_path))


def test_an_adapter_whose_loading_was_answered_into_the_void_counts_as_loaded(
    make_vllm, vllm_server, tmp_path
):
    policy = make_vllm()
    policy.connect()
    vllm_server.script(LOAD, Step(torn=True))
    policy.load_adapter("solver", "s-1", str(tmp_path / "1"))
    assert policy.generate([ask()])
    assert len(vllm_server.asked(LOAD)) == 2


def test_adapters_need_new_names_new_paths_and_a_role(make_vllm, tmp_path):
    policy = make_vllm(coder="given")
    policy.load_adapter("solver", "s-1", str(tmp_path / "1"))
    for name, path in (("s-1", "2"), ("s-2", "1"), ("given", "3")):
        with pytest.raises(UserError, match="each version needs a new name and a new path"):
            policy.load_adapter("solver", name, str(tmp_path / path))
    with pytest.raises(UserError, match="unknown role 'judge'"):
        policy.load_adapter("judge", "s-3", str(tmp_path / "3"))


def test_a_role_may_play_with_what_the_server_has_already(make_vllm, vllm_server):
    vllm_server.adapters["given"] = "somewhere"
    policy = make_vllm(coder="given")
    policy.generate([ask("a", role="coder"), ask("b")])
    assert {body["request_id"]: body["model"] for body in sampled(vllm_server)} == {
        "a": "given",
        "b": "nano",
    }
    assert dict(policy.adapters) == {"coder": "given"}
