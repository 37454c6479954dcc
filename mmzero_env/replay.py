"""Recorded episodes played again: same texts in, same pictures, votes and rewards out.

:func:`replay_all` gives what the recorded texts lead to now and refuses when that
cannot be scored. :func:`compare` goes through any number of records and says of each
whether it came out the same, bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

from mmzero_env.difference import first_difference
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.protocol import (
    CodeForm,
    CodeOutcome,
    Completion,
    EpisodeOutcome,
    EpisodeRewards,
    Proposal,
    Question,
)
from mmzero_env.record import EpisodeRecord, episode_to_record, png_to_image
from mmzero_env.record_schema import RenderRecord
from mmzero_env.recorded import answers_of
from mmzero_env.rendering import Renderer, RenderLimits
from mmzero_env.rewards import RewardDesign, get_design

TOGETHER = 64
"""Records outside of any batch that are drawn in one call."""

# How it was made, which may differ, as opposed to what came out, which may not.
_CIRCUMSTANCES = ("schema", "design", "render", "versions")


_Played = tuple[EpisodeOutcome, str | None]


@dataclass(frozen=True)
class Comparison:
    """One record beside its replay.

    Attributes:
        recorded: The record.
        now: The same episode, played again.
        difference: The first difference as ``"field: recorded ..., now ..."``, or None
            if there is none.
        complete: Whether every episode that it was scored with was there. If not, the
            Proposer's reward, which depends on them, was not compared.
    """

    recorded: EpisodeRecord
    now: EpisodeRecord
    difference: str | None
    complete: bool


def replay(
    record: EpisodeRecord, renderer: Renderer, design: RewardDesign
) -> tuple[EpisodeOutcome, EpisodeRewards]:
    """Play one recorded episode again, scored on its own.

    Args:
        record: The episode.
        renderer: Draws its codes; give it the size of the recorded pictures.
        design: Scores it.

    Returns:
        The outcome and rewards that the recorded texts lead to now. Terms that
        compare proposals see this one only; :func:`replay_all` scores a batch.

    Raises:
        UserError: As for :func:`replay_all`.
    """
    return replay_all([record], renderer, design)[0]


def replay_all(
    records: Sequence[EpisodeRecord],
    renderer: Renderer,
    design: RewardDesign,
    memory: Sequence[Sequence[str]] = (),
) -> list[tuple[EpisodeOutcome, EpisodeRewards]]:
    """Play recorded episodes again and score them together.

    Args:
        records: The population, in the order in which it was scored: a batch, or
            an environment's window with the episode of interest last.
        renderer: Draws the codes, all in one call; give it the size of the recorded
            pictures.
        design: Scores the population.
        memory: Captions of earlier steps, oldest first.

    Returns:
        For every record its outcome and rewards.

    Raises:
        UserError: If a proposal parses or a code renders now and did not then, or the
            other way round: answers are then missing or too many, and no reward is
            made up for them.
    """
    played = _play(records, renderer)
    for _, change in played:
        if change is not None:
            raise UserError(change)
    outcomes = [outcome for outcome, _ in played]
    return list(zip(outcomes, design.score(outcomes, memory), strict=True))


def compare(
    records: Iterable[EpisodeRecord], *, workers: int = 1, design: RewardDesign | None = None
) -> Iterator[Comparison]:
    """Play records again and compare, bit for bit.

    Texts go in; proposal, codes, pictures (by pixel), failures, flags, votes and rewards
    are compared. Batches are scored as batches and windows as windows, so records must
    come in the order of their file. A batch is held in memory, no more.

    Args:
        records: As :func:`mmzero_env.record.read_records` gives them from one file.
        workers: Processes that draw. The result does not depend on it, except that 0
            draws without limits on time and memory.
        design: Scores everything; by default each record's own design.

    Yields:
        One comparison a record, in order.

    Raises:
        UserError: If a record's design is not known and none is given, or a record's
            texts do not fit its config.
    """
    with ExitStack() as stack:
        renderers: dict[str, Renderer] = {}
        past: deque[EpisodeOutcome] = deque()
        for group in _groups(records):
            settings = _render_settings(group)
            forms = tuple(cast("CodeForm", form) for form in group[0]["config"]["code_forms"])
            name = repr((settings, forms))
            if name not in renderers:
                limits = RenderLimits(**cast("dict[str, Any]", settings["limits"]))
                renderers[name] = stack.enter_context(
                    Renderer(settings["size"], workers, limits, settings["backend"], forms=forms)
                )
            renderer = renderers[name]
            played = _play(group, renderer)
            if group[0]["batch"] is None:
                scored = _score_in_windows(group, played, past, design)
            else:
                scored = _score_together(group, played, design)
            for record, (outcome, change), (scorer, rewards, complete) in zip(
                group, played, scored, strict=True
            ):
                now = episode_to_record(
                    outcome,
                    rewards,
                    seed=record["seed"],
                    design=scorer,
                    renderer=renderer,
                    batch=record["batch"],
                    population=record["population"],
                    memory=record["memory"],
                )
                now["config"] = record["config"]
                difference = first_difference(_ordered(record, complete), _ordered(now, complete))
                yield Comparison(record, now, difference or change, complete)


def _groups(records: Iterable[EpisodeRecord]) -> Iterator[list[EpisodeRecord]]:
    """Batches, and runs of records without a batch in handy portions."""

    def kind(record: EpisodeRecord) -> tuple[str | None, str, str]:
        # Without settings the pictures of each record tell the size.
        alone = record["id"] if record["render"] is None and record["batch"] is None else ""
        drawn = repr((record["render"], record["config"]["code_forms"]))
        return record["batch"], drawn, alone

    for _, run in groupby(records, key=kind):
        portion: list[EpisodeRecord] = []
        for record in run:
            portion.append(record)
            # A batch may stand in a file twice in a row.
            if len(portion) == (TOGETHER if record["batch"] is None else record["population"]):
                yield portion
                portion = []
        if portion:
            yield portion


def _render_settings(group: Sequence[EpisodeRecord]) -> RenderRecord:
    if (settings := group[0]["render"]) is not None:
        return settings
    pictures = (code["png"] for record in group for code in record["codes"])
    png = next((png for png in pictures if png is not None), None)
    size = 448 if png is None else png_to_image(png).shape[0]
    return {"size": size, "backend": "cairosvg", "limits": {}}


def _score_together(
    group: Sequence[EpisodeRecord], played: Sequence[_Played], design: RewardDesign | None
) -> list[tuple[RewardDesign, EpisodeRewards, bool]]:
    scorer = design or _design_of(group[0])
    rewards = scorer.score([outcome for outcome, _ in played], group[0]["memory"])
    complete = all(record["population"] == len(group) for record in group)
    return [(scorer, each, complete) for each in rewards]


def _score_in_windows(
    group: Sequence[EpisodeRecord],
    played: Sequence[_Played],
    past: deque[EpisodeOutcome],
    design: RewardDesign | None,
) -> list[tuple[RewardDesign, EpisodeRewards, bool]]:
    scored = []
    for record, (outcome, _) in zip(group, played, strict=True):
        before = record["population"] - 1
        window = list(past)[-before:] if before else []
        scorer = design or _design_of(record)
        rewards = scorer.score([*window, outcome], record["memory"])[-1]
        scored.append((scorer, rewards, len(window) == before))
        past.append(replace(outcome, codes=()))
        # Windows grow by at most one episode, so what this one did not need is done with.
        while len(past) > record["population"]:
            past.popleft()
    return scored


def _design_of(record: EpisodeRecord) -> RewardDesign:
    recorded = record["design"]
    if recorded is None or recorded["overrides"] is None:
        name = "no design" if recorded is None else f"the unregistered design {recorded['name']!r}"
        raise UserError(
            f"episode {record['id']!r} was recorded with {name}; give the design to score it with "
            "(mmzero replay: --design NAME)."
        )
    return get_design(recorded["name"], **recorded["overrides"])


def _play(records: Sequence[EpisodeRecord], renderer: Renderer) -> list[_Played]:
    """Every record's outcome now, and what keeps it from being scored, if anything."""
    episodes = [_coded(record) for record in records]
    jobs = [(episode, job) for episode in episodes for job in episode.pending_renders()]
    drawings = renderer.render([job for _, job in jobs])
    for (episode, job), drawing in zip(jobs, drawings, strict=True):
        episode.draw(job.id, drawing)
    return [_answered(record, episode) for record, episode in zip(records, episodes, strict=True)]


def _coded(record: EpisodeRecord) -> Episode:
    """The episode up to its codes."""
    config = record["config"]
    # Nobody is prompted in a replay, so the default prompts will do.
    shape = EpisodeConfig(
        codes=config["codes"],
        answers=config["answers"],
        questions=tuple(cast("Question", question) for question in config["questions"]),
        code_forms=tuple(cast("CodeForm", form) for form in config["code_forms"]),
    )
    # A given proposal has no text, so there is nothing of the Proposer to replay.
    recorded = record["proposal"]
    given = Proposal(**recorded) if recorded is not None and not record["proposal_text"] else None
    episode = Episode(record["id"], record["topic"], record["seed"] or 0, shape, given)
    if given is None:
        episode.submit(f"{record['id']}/proposer", [Completion(record["proposal_text"])])
    if isinstance(episode.proposal, Proposal):
        texts = [Completion(code["text"]) for code in record["codes"]]
        episode.submit(f"{record['id']}/coder", texts)
    return episode


def _answered(record: EpisodeRecord, episode: Episode) -> _Played:
    """The episode's outcome with the recorded answers, and what keeps it from being scored."""
    codes = []
    change = None
    for index, (_, drawing) in enumerate(episode.codes):
        code = record["codes"][index]
        assert drawing is not None  # all are drawn
        if drawing.ok != (code["png"] is not None) and change is None:
            change = (
                f"replay of episode {record['id']!r}: code {index} "
                f"{'renders' if drawing.ok else 'does not render'} now, but the record says "
                "otherwise; replay with the backend and the limits of the recording."
            )
        answers: dict[Question, tuple[str, ...]] = {}
        for name, texts in code["answers"].items() if drawing.ok else ():
            request_id = f"{record['id']}/solver/{index}/{name}"
            episode.submit(request_id, [Completion(text) for text in texts])
            answers[cast("Question", name)] = tuple(texts)
        found, form = episode.codes[index][0], episode.forms[index]
        codes.append(CodeOutcome(code["text"], found, drawing, answers, form))
    if isinstance(episode.proposal, Proposal) != (record["proposal"] is not None):
        now = "parses" if isinstance(episode.proposal, Proposal) else "does not parse"
        change = (
            f"replay of episode {record['id']!r}: the proposal {now} now, but the record says "
            "otherwise; replay with the version of the recording."
        )
    if episode.finished:
        outcome = episode.outcome()
    else:
        # It cannot be finished without the answers, but others may be scored with it.
        assert episode.proposal is not None
        outcome = EpisodeOutcome(
            record["id"], record["topic"], record["proposal_text"], episode.proposal, tuple(codes)
        )
        waiting = ", ".join(request.id for request in episode.open_requests())
        change = change or (
            f"replay of episode {record['id']!r}: the record lacks answers to {waiting}."
        )
    # They hang on nothing that is played again, so they are taken over as they are.
    without_picture = {
        "caption_answers": answers_of(record["caption_answers"]),
        "blind_answers": answers_of(record["blind_answers"]),
    }
    return replace(outcome, **without_picture), change


def _ordered(record: EpisodeRecord, complete: bool) -> dict[str, Any]:
    """What came out, causes before effects: a changed picture explains a changed vote."""
    shown: dict[str, Any] = {k: v for k, v in record.items() if k not in _CIRCUMSTANCES}
    shown["codes"] = [
        {**{k: v for k, v in code.items() if k != "reward"}, "reward": code["reward"]}
        for code in record["codes"]
    ]
    reward = shown.pop("reward")
    return {**shown, "reward": reward} if complete else shown
