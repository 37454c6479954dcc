"""The collector over policies that are asked in batches: who is asked what and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agents.policy import Policy
from mmzero_env.episode import Episode
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, Proposal, RenderJob, Request, Response, Role
from tests.trainers.rollout_players import SHAPE, Painter, Player, episodes, roles
from trainers.rollout import Rollout, collect


def play(policy: Player, count: int = 3, batch: int | None = None) -> list[Rollout]:
    return collect(episodes(count), roles(policy), Painter(), batch=batch)


def test_every_episode_is_played_to_its_end() -> None:
    policy, painter = Player(), Painter()
    progress: list[tuple[int, int]] = []
    rollouts = collect(
        episodes(),
        roles(policy),
        painter,
        on_progress=lambda done, all: progress.append((done, all)),
    )
    assert [rollout.outcome.id for rollout in rollouts] == ["e0", "e1", "e2"]
    for rollout in rollouts:
        name = rollout.outcome.id
        assert isinstance(rollout.outcome.proposal, Proposal)
        assert [code.drawing.ok for code in rollout.outcome.codes] == [True, False, False]
        assert (
            rollout.requests.keys()
            == rollout.responses.keys()
            == {
                f"{name}/proposer",
                f"{name}/coder",
                f"{name}/solver/0/easy",
                f"{name}/solver/0/hard",
            }
        )
        image = rollout.outcome.codes[0].drawing.image
        assert image is not None
        assert rollout.outcome.codes[0].answers["hard"] == (f"\\boxed{{{image[0, 0, 0]}}}",) * 2
        assert rollout.requests[f"{name}/solver/0/hard"].image is image
    assert len(painter.drawn) == 6
    assert all(name.startswith("render") for name in painter.threads)
    assert progress[-1] == (3, 3)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_open_requests_are_batched_by_policy_in_the_order_of_their_ids() -> None:
    policy = Player()
    play(policy)
    assert policy.asked[0] == ["e0/proposer", "e1/proposer", "e2/proposer"]
    assert policy.asked[1] == ["e0/coder", "e1/coder", "e2/coder"]
    assert policy.asked[2] == sorted(policy.asked[2])
    assert len(policy.asked) == 3

    writer, looker = Player("writer"), Player("looker")
    players: dict[Role, Policy] = {"proposer": writer, "coder": writer, "solver": looker}
    collect(episodes(), players, Painter())
    assert {len(asked) for asked in writer.asked} == {3}
    assert {name.split("/")[1] for asked in looker.asked for name in asked} == {"solver"}


def test_results_depend_neither_on_batching_nor_on_the_clock() -> None:
    whole, single = play(Player()), play(Player(), batch=1)
    for one, other in zip(whole, single, strict=True):
        assert one.responses == other.responses
        assert list(one.requests) == list(other.requests)
        assert one.outcome.codes[0].answers == other.outcome.codes[0].answers


def test_given_proposals_skip_the_proposer() -> None:
    proposal = Proposal("map", "c", "q", "a", "Q", "A")
    episode = Episode("g", "map", seed=0, config=SHAPE, proposal=proposal)
    policy = Player()
    (rollout,) = collect([episode], {"coder": policy, "solver": policy}, Painter())
    assert "g/proposer" not in rollout.requests
    assert len(rollout.outcome.codes) == 3


class Broken(Player):
    """Changes what a sound player would return."""

    def __init__(self, change: Callable[[list[Response]], list[Response]]) -> None:
        super().__init__("broken")
        self.change = change

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        return self.change(super().generate(requests))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out[1:], "lost 1 of 3 requests, the first is 'e2/proposer'"),
        (lambda out: [*out, out[0]], "answered request 'e2/proposer' twice"),
        (lambda out: [*out, replace(out[0], request_id="x")], "answered 'x', which was not asked"),
        (lambda out: [replace(out[0], completions=()), *out[1:]], "gave 0 completions"),
    ],
)
def test_a_lost_answer_is_an_error_and_never_filled_in(
    change: Callable[[list[Response]], list[Response]], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        play(Broken(change))


def test_errors_of_use_and_of_engines_are_named() -> None:
    with pytest.raises(UserError, match="no policy plays the coder"):
        collect(episodes(), {"proposer": Player()}, Painter())
    with pytest.raises(UserError, match="distinct ids"):
        collect([*episodes(1), *episodes(1)], {"proposer": Player()}, Painter())
    with pytest.raises(UserError, match="batch must be at least 1"):
        play(Player(), batch=0)

    class Forgetful(Painter):
        def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
            return super().render(jobs)[1:]

    with pytest.raises(EngineError, match="drawings to"):
        collect(episodes(), roles(Player()), Forgetful())
    with pytest.raises(UserError, match="unknown mode 'fast'"):
        collect(episodes(), roles(Player()), Painter(), mode="fast")  # type: ignore[arg-type]


def test_phases_ask_policies_that_generate_role_by_role() -> None:
    policy = Player()
    shape = replace(SHAPE, caption_answers=1)
    by_phase = collect(episodes(config=shape), roles(policy), Painter(), mode="phases")
    kinds = [{name.split("/")[1] for name in asked} for asked in policy.asked]
    assert kinds == [{"proposer"}, {"coder"}, {"solver"}]

    policy = Player()
    streamed = collect(episodes(config=shape), roles(policy), Painter())
    assert {"e0/coder", "e0/solver/caption/easy"} < set(policy.asked[1])
    for one, other in zip(by_phase, streamed, strict=True):
        assert list(one.responses.items()) == list(other.responses.items())


def test_requests_of_a_rollout_are_sorted_by_role_and_id() -> None:
    shape = replace(SHAPE, caption_answers=1, codes=2)
    (rollout,) = collect(episodes(1, shape), roles(Player()), Painter())
    assert list(rollout.requests) == [
        "e0/proposer", "e0/coder",
        "e0/solver/0/easy", "e0/solver/0/hard",
        "e0/solver/caption/easy", "e0/solver/caption/hard",
    ]  # fmt: skip
    assert list(rollout.responses) == list(rollout.requests)
