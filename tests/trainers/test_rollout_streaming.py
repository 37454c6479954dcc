"""The collector over policies that stream: nobody waits, any order gives the same, faults stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.policy import PolicyError, StreamingPolicy
from mmzero_env.episode import Episode
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, RenderJob, Request, Response, Role
from mmzero_env.record import batch_to_records, write_records
from mmzero_env.rewards import get_design
from tests.trainers.rollout_players import (
    SHAPE,
    Painter,
    Player,
    SlowPainter,
    Streamer,
    episodes,
    roles,
)
from trainers.groups import coder_groups, proposer_groups, solver_groups
from trainers.rollout import Mode, Rollout, RolloutError, collect
from trainers.rollout_stats import RolloutStats

DESIGN = get_design("mm_zero")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(1)
        assert not thread.is_alive()


def fingerprint(played: Sequence[Episode], rollouts: Sequence[Rollout], file: Path) -> bytes:
    """All that a collection leads to, as bytes: records, groups, prompts, order."""
    rewards = DESIGN.score([rollout.outcome for rollout in rollouts])
    file.unlink(missing_ok=True)
    write_records(file, batch_to_records(played, rewards, design=DESIGN))
    text = [repr(list(rollout.responses.items())) for rollout in rollouts]
    for group in (
        *proposer_groups(rollouts, rewards, size=2),
        *coder_groups(rollouts, rewards),
        *solver_groups(rollouts, rewards),
    ):
        asked = group.request
        image = b"" if asked.image is None else asked.image.tobytes()
        text.append(repr((replace(asked, image=None), image, group.response, group.rewards)))
        text.append(repr(group.terms))
    return file.read_bytes() + "\n".join(text).encode()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a policy that is asked in batches leads to."""
    played = episodes(6, replace(SHAPE, caption_answers=1, blind_answers=2))
    rollouts = collect(played, roles(Player()), Painter())
    return fingerprint(played, rollouts, tmp_path_factory.mktemp("expected") / "records.jsonl")


@given(
    seed=st.integers(0, 10_000),
    max_open=st.sampled_from([1, 2, 7, 100]),
    mode=st.sampled_from(["stream", "phases"]),
    delay=st.sampled_from([0.0, 0.002]),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_arrival_gives_the_same_bytes(
    expected: bytes, tmp_path: Path, seed: int, max_open: int, mode: Mode, delay: float
) -> None:
    played = episodes(6, replace(SHAPE, caption_answers=1, blind_answers=2))
    with Streamer(seed, delay=delay) as policy:
        painter = SlowPainter(seed, delay)
        rollouts = collect(played, roles(policy), painter, mode=mode, max_open=max_open)
        assert policy.most <= max_open
    assert fingerprint(played, rollouts, tmp_path / "records.jsonl") == expected


@pytest.mark.parametrize("streaming", [("coder",), ("proposer", "solver"), ("solver",)])
def test_mixed_with_streaming_ones_a_batched_policy_sees_the_same_batches(
    expected: bytes, tmp_path: Path, streaming: tuple[Role, ...]
) -> None:
    shape = replace(SHAPE, caption_answers=1, blind_answers=2)
    batches = []
    for seed in range(5):
        played = episodes(6, shape)
        batched = Player()
        with Streamer(seed, delay=0.002) as policy:
            players = {**roles(batched), **dict.fromkeys(streaming, policy)}
            rollouts = collect(played, players, SlowPainter(seed, 0.003), batch=4)
            assert fingerprint(played, rollouts, tmp_path / "records.jsonl") == expected
            assert {name.split("/")[1] for name in policy.sent} == set(streaming)
        batches.append(batched.asked)
    assert all(each == batches[0] for each in batches)


def test_a_thousand_episodes_with_delays_stay_within_the_limit() -> None:
    finished: list[Rollout] = []
    stats: list[RolloutStats] = []
    with Streamer(3, max_open=64, delay=0.0005) as policy:
        assert isinstance(policy, StreamingPolicy)
        rollouts = collect(
            episodes(1000),
            roles(policy),
            SlowPainter(3, 0.001),
            on_finished=finished.append,
            on_stats=stats.append,
        )
        assert policy.most == 64
        assert len(policy.sent) == len(set(policy.sent)) == 4000
    assert [rollout.outcome.id for rollout in rollouts] == [f"e{i}" for i in range(1000)]
    assert sorted(map(id, finished)) == sorted(map(id, rollouts))
    (found,) = stats
    (asked,) = found.policies
    assert asked.roles == ("proposer", "coder", "solver")
    assert (asked.requests, asked.completions) == (4000, 1000 * (1 + 3 + 2 * 2))
    assert asked.tokens == 2 * asked.completions
    assert found.drawings == 2000 and 0 < found.seconds_drawing <= found.seconds
    assert 32 < asked.occupancy.mean <= asked.occupancy.most <= 64
    assert 0.9 < asked.busy_share <= 1 and asked.occupancy.span <= found.seconds


def test_no_episode_waits_for_another() -> None:
    with Streamer() as policy:
        # Each of these would stand still if anything waited for a phase to end.
        policy.hold = {"e1/proposer": "e0/solver/0/hard", "e2/coder": "e1/solver/0/easy"}
        rollouts = collect(episodes(), roles(policy), Painter())
        assert len(rollouts) == 3
        assert policy.answered.index("e2/coder") > policy.answered.index("e1/solver/0/easy")


def test_phases_wait_for_each_other() -> None:
    with Streamer(1) as policy:
        painter = Painter()
        collect(episodes(5), roles(policy), painter, mode="phases")
        kinds = [name.split("/")[1] for name in policy.sent]
        assert kinds == ["proposer"] * 5 + ["coder"] * 5 + ["solver"] * 10
        assert policy.answered[:5] != policy.sent[:5] or policy.answered[5:10] != policy.sent[5:10]


def test_what_has_the_longest_way_to_go_is_sent_first_and_then_the_earlier_episode() -> None:
    with Streamer() as policy:
        collect(episodes(3), roles(policy), Painter(), max_open=1)
        assert policy.sent[:6] == [
            "e0/proposer", "e1/proposer", "e2/proposer", "e0/coder", "e1/coder", "e2/coder",
        ]  # fmt: skip


def test_pictures_are_shared_and_not_copied() -> None:
    with Streamer() as policy:
        for rollout in collect(episodes(), roles(policy), Painter()):
            image = rollout.outcome.codes[0].drawing.image
            assert image is not None
            name = rollout.outcome.id
            assert rollout.requests[f"{name}/solver/0/easy"].image is image
            assert rollout.requests[f"{name}/solver/0/hard"].image is image


def test_a_failed_request_stops_the_collection_and_leaves_the_finished_episodes() -> None:
    finished: list[Rollout] = []
    with Streamer() as policy:
        policy.hold = {
            **{f"e{i}/coder": None for i in (3, 4)},
            "e2/coder": "e0/solver/0/hard",
        }
        policy.hold["e0/solver/0/hard"] = "e1/solver/0/hard"
        policy.hold["e1/solver/0/hard"] = "e1/solver/0/easy"
        policy.hold["e0/solver/0/easy"] = "e1/solver/0/easy"
        policy.hold["e2/coder"] = "e0/solver/0/easy"
        policy.fail["e2/coder"] = PolicyError("the server is gone")
        with pytest.raises(RolloutError) as caught:
            collect(episodes(5), roles(policy), Painter(), on_finished=finished.append)
        assert "policy 'streamer' failed at request 'e2/coder': the server is gone" in str(
            caught.value
        )
        assert f"({len(finished)} of 5 episodes were finished)" in str(caught.value)
        assert caught.value.finished == len(finished) and caught.value.episodes == 5
        assert isinstance(caught.value, EngineError)
        assert policy.left_open() == []
        assert {"e3/coder", "e4/coder"} <= set(policy.cancelled)
    assert "e1" in {rollout.outcome.id for rollout in finished} <= {"e0", "e1"}


class Wrong(Streamer):
    """Answers one request with what does not fit."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def respond(self, request: Request) -> Response:
        response = super().respond(request)
        return self.answer(response) if request.id == "e1/coder" else response  # type: ignore


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r: replace(r, request_id="e0/coder"), "answered 'e0/coder', which was not asked"),
        (lambda r: replace(r, completions=r.completions[1:]), "gave 2 completions to request 'e1/"),
        (lambda r: replace(r, completions=(*r.completions, *r.completions)), "gave 6 completions"),
        (lambda r: None, "answered with None"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error(answer: object, message: str) -> None:
    with Wrong(answer) as policy:
        with pytest.raises(RolloutError, match=message):
            collect(episodes(), roles(policy), Painter())
        assert policy.left_open() == []


def test_a_request_that_is_not_taken_or_given_up_by_the_policy_is_an_error() -> None:
    class Full(Streamer):
        def submit(self, request: Request) -> Future[Response]:
            if request.role == "coder":
                raise PolicyError("no connection")
            return super().submit(request)

    with Full() as policy:
        with pytest.raises(RolloutError, match=r"failed at request 'e\d/coder': no connection"):
            collect(episodes(), roles(policy), Painter())
        assert policy.left_open() == []

    class GivesUp(Streamer):
        def respond(self, request: Request) -> Response:
            if request.role == "coder":
                self.futures["e2/proposer"].cancel()
            return super().respond(request)

    with GivesUp() as policy:
        policy.hold["e2/proposer"] = None
        with pytest.raises(RolloutError, match="'e2/proposer': the request was cancelled"):
            collect(episodes(), roles(policy), Painter())


def test_other_errors_keep_their_kind_and_say_where() -> None:
    with Streamer() as policy:
        policy.fail["e1/coder"] = UserError("the context is too long")
        with pytest.raises(UserError, match="context is too long") as caught:
            collect(episodes(), roles(policy), Painter())
        assert "policy 'streamer' failed at request 'e1/coder'" in caught.value.__notes__
        assert policy.left_open() == []


@pytest.mark.parametrize("error", [EngineError("workers do not start"), MemoryError("no room")])
def test_a_renderer_that_fails_stops_the_collection(error: Exception) -> None:
    class Failing(Painter):
        def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
            raise error

    with Streamer() as policy:
        policy.hold["e2/proposer"] = None
        kind = RolloutError if isinstance(error, EngineError) else MemoryError
        with pytest.raises(kind, match=str(error)):
            collect(episodes(), roles(policy), Failing())
        assert "e2/proposer" in policy.cancelled and policy.left_open() == []


def test_ctrl_c_leaves_no_thread_and_no_open_request() -> None:
    finished: list[Rollout] = []
    with Streamer() as policy:
        policy.hold = {"e2/proposer": None, "e1/coder": None}

        def note(rollout: Rollout) -> None:
            finished.append(rollout)
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()

        with pytest.raises(KeyboardInterrupt):
            collect(episodes(), roles(policy), Painter(), on_finished=note)
        assert [rollout.outcome.id for rollout in finished] == ["e0"]
        assert policy.cancelled == ["e1/coder", "e2/proposer"] and policy.left_open() == []


def test_ctrl_c_while_codes_are_drawn_waits_only_for_the_portion_under_way() -> None:
    class Interrupted(Painter):
        def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
            if not self.drawn:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(0.3)
            return super().render(jobs)

    painter = Interrupted()
    with Streamer() as policy:
        with pytest.raises(KeyboardInterrupt):
            collect(episodes(50), roles(policy), painter)
        assert policy.left_open() == []
    assert len(painter.drawn) <= 8


def test_a_limit_below_one_is_refused() -> None:
    with Streamer(max_open=0) as policy:
        with pytest.raises(UserError, match="max_open 0; it must be at least 1"):
            collect(episodes(), roles(policy), Painter())
    with pytest.raises(UserError, match="max_open must be at least 1, got 0"):
        collect(episodes(), roles(Player()), Painter(), max_open=0)
