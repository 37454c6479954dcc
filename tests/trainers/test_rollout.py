"""The collector: who is asked what and when, and the groups that come out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from agents.policy import Policy
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import (
    CodeRewards,
    Completion,
    Drawing,
    EpisodeRewards,
    Failure,
    Proposal,
    RenderJob,
    Request,
    Response,
    Role,
    TurnReward,
)
from trainers.rollout import (
    Group,
    Rollout,
    answer,
    coder_groups,
    collect,
    proposer_groups,
    solver_groups,
)

SHAPE = EpisodeConfig(codes=3, answers=2)
PROPOSAL = (
    "<content_type>table</content_type><caption>a table of {0}</caption>"
    "<easy_question>what?</easy_question><easy_answer>{0}</easy_answer>"
    "<hard_question>why?</hard_question><hard_answer>{0}</hard_answer>"
)


class Player:
    """Answers from the request alone; every third code has no SVG."""

    def __init__(self, name: str = "player") -> None:
        self.name = name
        self.asked: list[list[str]] = []

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.asked.append([request.id for request in requests])
        # Out of order on purpose: answers count by id.
        return [self.respond(request) for request in reversed(requests)]

    def respond(self, request: Request) -> Response:
        done = tuple(
            Completion(self.text(request, i), (i, request.seed % 97), (-1.0, -2.0))
            for i in range(request.n)
        )
        return Response(request.id, done, tuple(request.prompt.encode()))

    def text(self, request: Request, i: int) -> str:
        if request.role == "proposer":
            return PROPOSAL.format(request.seed % 10)
        if request.role == "coder":
            return "no code" if i == 2 else f"<svg>{request.id} {i}</svg>"
        assert request.image is not None
        return f"\\boxed{{{request.image[0, 0, 0]}}}"


class Painter:
    """Draws one grey that depends on the code; refuses codes with 'coder 1'."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.drawn: list[str] = []

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        self.threads.add(threading.current_thread().name)
        self.drawn.extend(job.id for job in jobs)
        return [self.draw(job) for job in jobs]

    def draw(self, job: RenderJob) -> Drawing:
        if "coder 1" in job.code:
            return Drawing(None, Failure("render", "refused"))
        return Drawing(np.full((4, 4, 3), len(job.code), np.uint8))


def episodes(count: int = 3, config: EpisodeConfig = SHAPE) -> list[Episode]:
    return [Episode(f"e{i}", "map", seed=i, config=config) for i in range(count)]


def play(policy: Player, count: int = 3, batch: int | None = None) -> list[Rollout]:
    roles: dict[Role, Policy] = {"proposer": policy, "coder": policy, "solver": policy}
    return collect(episodes(count), roles, Painter(), batch=batch)


def test_every_episode_is_played_to_its_end() -> None:
    policy, painter = Player(), Painter()
    progress: list[tuple[int, int]] = []
    roles: dict[Role, Policy] = {"proposer": policy, "coder": policy, "solver": policy}
    rollouts = collect(
        episodes(), roles, painter, on_progress=lambda done, all: progress.append((done, all))
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
    roles: dict[Role, Policy] = {"proposer": writer, "coder": writer, "solver": looker}
    collect(episodes(), roles, Painter())
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

    policy = Player()
    roles: dict[Role, Policy] = {"proposer": policy, "coder": policy, "solver": policy}
    with pytest.raises(EngineError, match="drawings to"):
        collect(episodes(), roles, Forgetful())


def reward(value: float) -> TurnReward:
    return TurnReward(value, {"only": value})


def scored(rollout: Rollout, start: float) -> EpisodeRewards:
    """Distinct rewards for every turn, so that a mix-up shows."""
    codes = tuple(
        CodeRewards(
            reward(start + 10 + i),
            solver={
                level: tuple(reward(start + 100 * (i + 1) + 10 * q + k) for k in range(2))
                for q, level in enumerate(code.answers)
            },
        )
        for i, code in enumerate(rollout.outcome.codes)
    )
    return EpisodeRewards(reward(start), codes)


def test_groups_pair_completions_with_their_rewards() -> None:
    rollouts = play(Player())
    rewards = [scored(rollout, 1000.0 * i) for i, rollout in enumerate(rollouts)]

    coders = coder_groups(rollouts, rewards)
    assert [group.request.id for group in coders] == ["e0/coder", "e1/coder", "e2/coder"]
    assert coders[1].rewards == (1010.0, 1011.0, 1012.0)
    assert coders[1].terms[2] == {"only": 1012.0}
    assert coders[1].response is rollouts[1].responses["e1/coder"]

    solvers = solver_groups(rollouts, rewards)
    assert [group.request.id for group in solvers[:2]] == ["e0/solver/0/easy", "e0/solver/0/hard"]
    assert solvers[3].rewards == (1110.0, 1111.0)
    hard = solver_groups(rollouts, rewards, questions=("hard",))
    assert [group.request.id for group in hard] == [f"e{i}/solver/0/hard" for i in range(3)]

    (proposers,) = proposer_groups(rollouts, rewards)
    assert proposers.rewards == (0.0, 1000.0, 2000.0)
    assert proposers.request.n == len(proposers.response.completions) == 3
    expected = [rollouts[i].responses[f"e{i}/proposer"].completions[0] for i in range(3)]
    assert list(proposers.response.completions) == expected
    pairs = proposer_groups(rollouts, rewards, size=2)
    assert [group.rewards for group in pairs] == [(0.0, 1000.0), (2000.0,)]


def test_a_failed_proposal_has_no_group_but_its_proposers() -> None:
    class Mute(Player):
        def text(self, request: Request, i: int) -> str:
            return "nothing" if request.id == "e1/proposer" else super().text(request, i)

    rollouts = play(Mute())
    rewards = [scored(rollout, 1000.0 * i) for i, rollout in enumerate(rollouts)]
    assert isinstance(rollouts[1].outcome.proposal, Failure)
    assert [group.request.id for group in coder_groups(rollouts, rewards)] == [
        "e0/coder",
        "e2/coder",
    ]
    assert len(solver_groups(rollouts, rewards)) == 4
    assert proposer_groups(rollouts, rewards)[0].rewards == (0.0, 1000.0, 2000.0)


def test_groups_that_contradict_themselves_are_errors() -> None:
    rollouts = play(Player())
    rewards = [scored(rollout, 0.0) for rollout in rollouts]
    with pytest.raises(EngineError, match="3 rollouts came with 2"):
        coder_groups(rollouts, rewards[:2])
    short = [replace(reward, codes=reward.codes[:2]) for reward in rewards]
    with pytest.raises(EngineError, match="3 completions but 2 rewards"):
        coder_groups(rollouts, short)
    first = rollouts[0]
    odd = {
        "e0/proposer": replace(first.responses["e0/proposer"], prompt_ids=(1, 2)),
    }
    changed = replace(first, responses={**first.responses, **odd})
    with pytest.raises(EngineError, match="one prompt text but different"):
        proposer_groups([changed, *rollouts[1:]], rewards)
    response = first.responses["e0/coder"]
    with pytest.raises(EngineError, match="3 completions but 1 rewards"):
        Group.of(first.requests["e0/coder"], response, [reward(1.0)])


def test_answers_are_sorted_before_they_are_asked() -> None:
    policy = Player()
    asked = [Request(f"r{i}", "proposer", "p", seed=i) for i in (2, 0, 1)]
    answers = answer(policy, asked)
    assert policy.asked == [["r0", "r1", "r2"]]
    assert {name: response.request_id for name, response in answers.items()} == {
        name: name for name in ("r0", "r1", "r2")
    }
