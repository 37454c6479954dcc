"""Asking one policy outside of episodes."""

from __future__ import annotations

import threading

import pytest

from agents.policy import PolicyError
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Request, Response
from tests.trainers.rollout_players import Player, Streamer
from trainers.dispatcher import answer
from trainers.rollout_stats import RolloutStats


def requests(count: int) -> list[Request]:
    return [Request(f"r{i}", "coder", "p", n=2, seed=i) for i in reversed(range(count))]


def test_requests_are_sorted_before_they_are_asked_in_one_batch() -> None:
    policy = Player()
    answers = answer(policy, requests(3))
    assert policy.asked == [["r0", "r1", "r2"]]
    assert {name: response.request_id for name, response in answers.items()} == {
        name: name for name in ("r0", "r1", "r2")
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_policy_that_streams_gives_the_same_within_its_limit(seed: int) -> None:
    expected = answer(Player(), requests(40))
    seen: list[str] = []
    stats: list[RolloutStats] = []

    def note(request: Request, response: Response) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(request.id)

    with Streamer(seed, max_open=5, delay=0.001) as policy:
        answers = answer(policy, requests(40), on_answer=note, on_stats=stats.append)
        assert policy.most == 5 and policy.sent == sorted(policy.sent)
        assert seen == policy.answered != policy.sent
    assert list(answers.items()) == list(expected.items())
    (asked,) = stats[0].policies
    assert (asked.requests, asked.completions, asked.tokens) == (40, 80, 160)
    assert asked.occupancy.most == 5


def test_a_failure_cancels_the_rest() -> None:
    with Streamer(max_open=4) as policy:
        policy.hold = {"r0": None, "r1": None}
        policy.fail["r2"] = PolicyError("gone")
        with pytest.raises(EngineError, match="policy 'streamer' failed at request 'r2': gone"):
            answer(policy, requests(9))
        assert {"r0", "r1"} <= set(policy.cancelled) and policy.left_open() == []


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(UserError, match="distinct ids"):
        answer(Player(), [*requests(1), *requests(1)])


def test_nothing_asked_is_nothing_answered() -> None:
    policy = Player()
    assert answer(policy, []) == {}
    assert policy.asked == []
