"""Rollouts: many episodes at once over a few policies, and the groups GRPO learns from.

The collector owns no rules of the game. It asks every episode what it waits for,
batches the requests by policy, hands completions and drawings back by id, and
repeats until all episodes are finished. It works in waves so that the make-up of
every batch depends on the episodes alone, never on how fast anything ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from agents.policy import Policy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import (
    QUESTIONS,
    Completion,
    Drawing,
    EpisodeOutcome,
    EpisodeRewards,
    Question,
    RenderJob,
    Request,
    Response,
    Role,
    TurnReward,
)


class OpenEpisode(Protocol):
    """What the collector needs of an episode: see :class:`mmzero_env.episode.Episode`."""

    @property
    def id(self) -> str:
        """Episode id."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing is open any more."""
        ...

    def open_requests(self) -> tuple[Request, ...]:
        """Requests that still wait for completions."""
        ...

    def pending_renders(self) -> tuple[RenderJob, ...]:
        """Codes that still wait for their drawing."""
        ...

    def submit(self, request_id: str, completions: Sequence[Completion]) -> None:
        """Hand in completions of one request."""
        ...

    def draw(self, job_id: str, drawing: Drawing) -> None:
        """Hand in one drawing."""
        ...

    def outcome(self) -> EpisodeOutcome:
        """The finished episode."""
        ...


class JobRenderer(Protocol):
    """What the collector needs of a renderer."""

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw every job, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Rollout:
    """One finished episode with every prompt and every sampled token.

    Attributes:
        outcome: The episode as texts and pictures.
        requests: Every request that was answered, by id.
        responses: Its response, by the same id.
    """

    outcome: EpisodeOutcome
    requests: Mapping[str, Request]
    responses: Mapping[str, Response]


@dataclass(frozen=True, eq=False)
class Group:
    """One prompt with its completions and their rewards: all that GRPO needs.

    Attributes:
        request: The prompt, with its picture if it has one.
        response: Its completions, with token ids and log-probabilities.
        rewards: Reward of each completion, in the same order.
        terms: Reward terms of each completion, for the records.
    """

    request: Request
    response: Response
    rewards: tuple[float, ...]
    terms: tuple[Mapping[str, float], ...] = ()

    @classmethod
    def of(cls, request: Request, response: Response, rewards: Sequence[TurnReward]) -> Group:
        """The group of one answered request.

        Raises:
            EngineError: If completions and rewards do not match in number.
        """
        if len(rewards) != len(response.completions):
            raise EngineError(
                f"request {request.id!r} has {len(response.completions)} completions "
                f"but {len(rewards)} rewards"
            )
        return cls(
            request,
            response,
            tuple(float(reward.value) for reward in rewards),
            tuple(reward.terms for reward in rewards),
        )


def answer(policy: Policy, requests: Sequence[Request]) -> dict[str, Response]:
    """Ask a policy and check what came back.

    Args:
        policy: Who answers.
        requests: What to answer, in any order; they are sorted by id first, so that
            the batch a policy sees does not depend on the caller's bookkeeping.

    Returns:
        The response to every request, by request id.

    Raises:
        EngineError: If a response is missing, doubled or unasked for, or has the
            wrong number of completions. A lost answer is never filled in.
    """
    ordered = sorted(requests, key=lambda request: request.id)
    answers: dict[str, Response] = {}
    for response in policy.generate(ordered):
        if response.request_id in answers:
            raise EngineError(
                f"policy {policy.name!r} answered request {response.request_id!r} twice"
            )
        answers[response.request_id] = response
    expected = {request.id for request in ordered}
    if missing := sorted(expected - answers.keys()):
        raise EngineError(
            f"policy {policy.name!r} lost {len(missing)} of {len(ordered)} requests, "
            f"the first is {missing[0]!r}"
        )
    if unasked := sorted(answers.keys() - expected):
        raise EngineError(f"policy {policy.name!r} answered {unasked[0]!r}, which was not asked")
    for request in ordered:
        came = len(answers[request.id].completions)
        if came != request.n:
            raise EngineError(
                f"policy {policy.name!r} gave {came} completions to request {request.id!r}, "
                f"expected {request.n}"
            )
    return answers


def collect(
    episodes: Sequence[OpenEpisode],
    policies: Mapping[Role, Policy],
    renderer: JobRenderer,
    *,
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """Play every episode to its end.

    A wave answers all requests that are open at its start, one policy after the
    other, and draws in the background what became drawable on the way. The next wave
    starts when every drawing is back.

    Args:
        episodes: Episodes with distinct ids, none of them started.
        policies: Who plays each role; one object may play several.
        renderer: Draws the codes; used from one background thread at a time.
        batch: Most requests a policy is asked at once, None for all that are open.
            A smaller number lets drawing and generation overlap within a wave.
        on_progress: Called with (finished episodes, all episodes) after every batch.

    Returns:
        One rollout an episode, in the order of ``episodes``.

    Raises:
        UserError: If ids repeat or a role that is asked has no policy.
        EngineError: If a policy or the renderer failed, or an episode stands still.
    """
    by_id = {episode.id: episode for episode in episodes}
    if len(by_id) != len(episodes):
        raise UserError("the episodes of one collection need distinct ids")
    if batch is not None and batch < 1:
        raise UserError(f"batch must be at least 1, got {batch}")
    requests: dict[str, dict[str, Request]] = {name: {} for name in by_id}
    responses: dict[str, dict[str, Response]] = {name: {} for name in by_id}

    def report() -> None:
        if on_progress is not None:
            on_progress(sum(episode.finished for episode in episodes), len(episodes))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="render") as background:
        drawings = _Drawings(renderer, background)
        while not all(episode.finished for episode in episodes):
            waiting = [
                (episode, asked) for episode in episodes for asked in episode.open_requests()
            ]
            drawings.start(episodes)
            if not waiting and not drawings.running:
                stuck = next(episode.id for episode in episodes if not episode.finished)
                raise EngineError(f"episode {stuck!r} is not finished but waits for nothing")
            owner = {asked.id: episode for episode, asked in waiting}
            for policy, asked in _batches([asked for _, asked in waiting], policies, batch):
                for request, response in _paired(asked, answer(policy, asked)):
                    episode = owner[request.id]
                    requests[episode.id][request.id] = request
                    responses[episode.id][request.id] = response
                    episode.submit(request.id, response.completions)
                drawings.start(episodes)
                report()
            drawings.finish()
            report()
    return [
        Rollout(episode.outcome(), requests[episode.id], responses[episode.id])
        for episode in episodes
    ]


class _Drawings:
    """Render jobs on their way through one background thread."""

    def __init__(self, renderer: JobRenderer, background: ThreadPoolExecutor) -> None:
        self._renderer = renderer
        self._background = background
        self._started: set[str] = set()
        self.running: list[tuple[list[tuple[OpenEpisode, RenderJob]], Future[list[Drawing]]]] = []

    def start(self, episodes: Iterable[OpenEpisode]) -> None:
        """Send off every job that is pending and not yet under way."""
        fresh = [
            (episode, job)
            for episode in episodes
            for job in episode.pending_renders()
            if job.id not in self._started
        ]
        if fresh:
            self._started.update(job.id for _, job in fresh)
            jobs = [job for _, job in fresh]
            self.running.append((fresh, self._background.submit(self._renderer.render, jobs)))

    def finish(self) -> None:
        """Wait for all drawings and hand them to their episodes."""
        for fresh, future in self.running:
            drawn = future.result()
            if len(drawn) != len(fresh):
                raise EngineError(f"the renderer gave {len(drawn)} drawings to {len(fresh)} jobs")
            for (episode, job), drawing in zip(fresh, drawn, strict=True):
                episode.draw(job.id, drawing)
        self.running = []


def _batches(
    requests: Sequence[Request], policies: Mapping[Role, Policy], batch: int | None
) -> Iterator[tuple[Policy, list[Request]]]:
    """Requests by the policy that answers them, in an order fixed by their ids."""
    players: dict[int, tuple[Policy, list[Request]]] = {}
    for request in sorted(requests, key=lambda request: request.id):
        if request.role not in policies:
            raise UserError(
                f"no policy plays the {request.role}; policies were given for: "
                f"{', '.join(sorted(policies)) or 'no role'}"
            )
        policy = policies[request.role]
        players.setdefault(id(policy), (policy, []))[1].append(request)
    for policy, asked in players.values():
        size = batch or len(asked)
        for start in range(0, len(asked), size):
            yield policy, asked[start : start + size]


def _paired(
    requests: Iterable[Request], answers: Mapping[str, Response]
) -> Iterator[tuple[Request, Response]]:
    return ((request, answers[request.id]) for request in requests)


def proposer_groups(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards], *, size: int | None = None
) -> list[Group]:
    """Groups for the Proposer: episodes with the same prompt compete.

    Args:
        rollouts: Finished episodes whose proposal was sampled.
        rewards: Rewards of the same episodes.
        size: Completions in a group; episodes on one topic are cut into groups of
            this size in their order. None makes one group of all of them.

    Returns:
        Groups in the order in which their prompts first appear. The completions of
        several one-completion requests become one response under the first id.

    Raises:
        EngineError: If equal prompts were tokenised differently.
    """
    same: dict[str, list[tuple[Request, Response, TurnReward]]] = {}
    for rollout, scored in _scored(rollouts, rewards):
        for request, response in _of_role(rollout, "proposer"):
            same.setdefault(request.prompt, []).append((request, response, scored.proposer))
    groups: list[Group] = []
    for turns in same.values():
        step = size or len(turns)
        for start in range(0, len(turns), step):
            groups.append(_merged(turns[start : start + step]))
    return groups


def coder_groups(rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]) -> list[Group]:
    """Groups for the Coder: the codes of one proposal.

    Args:
        rollouts: Finished episodes; those whose proposal failed have no codes.
        rewards: Rewards of the same episodes.

    Returns:
        One group an episode that reached the Coder.
    """
    return [
        Group.of(request, response, [code.coder for code in scored.codes])
        for rollout, scored in _scored(rollouts, rewards)
        for request, response in _of_role(rollout, "coder")
    ]


def solver_groups(
    rollouts: Sequence[Rollout],
    rewards: Sequence[EpisodeRewards],
    *,
    questions: Sequence[Question] = QUESTIONS,
) -> list[Group]:
    """Groups for the Solver: the answers to one image and question.

    Args:
        rollouts: Finished episodes.
        rewards: Rewards of the same episodes.
        questions: Levels to train on; MM-Zero trains on the hard question only.

    Returns:
        One group an image and question, in the order of episodes, codes, levels.
    """
    groups: list[Group] = []
    for rollout, scored in _scored(rollouts, rewards):
        for index, code in enumerate(scored.codes):
            for level in questions:
                name = f"{rollout.outcome.id}/solver/{index}/{level}"
                if name in rollout.responses:
                    turns = code.solver.get(level, ())
                    request, response = rollout.requests[name], rollout.responses[name]
                    groups.append(Group.of(request, response, turns))
    return groups


def _scored(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> Iterator[tuple[Rollout, EpisodeRewards]]:
    if len(rollouts) != len(rewards):
        raise EngineError(f"{len(rollouts)} rollouts came with {len(rewards)} episode rewards")
    return zip(rollouts, rewards, strict=True)


def _of_role(rollout: Rollout, role: Role) -> Iterator[tuple[Request, Response]]:
    for name, request in rollout.requests.items():
        if request.role == role:
            yield request, rollout.responses[name]


def _merged(turns: Sequence[tuple[Request, Response, TurnReward]]) -> Group:
    first, answered, _ = turns[0]
    for request, response, _ in turns:
        if response.prompt_ids != answered.prompt_ids:
            raise EngineError(
                f"requests {first.id!r} and {request.id!r} have one prompt text but "
                f"different prompt token ids"
            )
    completions = tuple(done for _, response, _ in turns for done in response.completions)
    return Group.of(
        replace(first, n=len(completions)),
        replace(answered, completions=completions),
        [reward for _, _, reward in turns],
    )
