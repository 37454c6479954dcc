"""Finished episodes on disk, and their replay: same texts in, same pictures and rewards out."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
from PIL import Image as PillowImage

from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.infos import failure_info, vote_info
from mmzero_env.protocol import (
    Completion,
    EpisodeOutcome,
    EpisodeRewards,
    Image,
    Proposal,
    Question,
    TurnReward,
)
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import RewardDesign

SCHEMA = 1
"""Version of the schema; it rises whenever a field changes its meaning."""


class RewardRecord(TypedDict):
    """A turn's reward: the scalar and the contribution of each named term."""

    value: float
    terms: dict[str, float]


class FailureRecord(TypedDict):
    """Why something could not be used, see :class:`mmzero_env.protocol.Failure`."""

    stage: str
    reason: str
    detail: str


class CodeRecord(TypedDict):
    """One code of an episode.

    Attributes:
        text: The Coder's raw completion.
        code: The extracted code, or None.
        png: The picture as PNG bytes (lossless, RGB), or None. Base64 in JSONL.
        failure: Set exactly when ``png`` is None.
        flags: What rendering dropped or normalised.
        answers: The Solver's raw completions by question.
        reward: Reward of the code.
        votes: By question: winner, consistency, valid, total.
        solver_rewards: By question, one reward an answer.
        solvability: Share of easy answers equal to the proposed one.
        difficulty: min(c, 1 - c) of the hard vote.
    """

    text: str
    code: str | None
    png: bytes | None
    failure: FailureRecord | None
    flags: list[str]
    answers: dict[str, list[str]]
    reward: RewardRecord
    votes: dict[str, dict[str, Any]]
    solver_rewards: dict[str, list[RewardRecord]]
    solvability: float
    difficulty: float


class EpisodeRecord(TypedDict):
    """One finished episode; a line of a JSONL file.

    Attributes:
        schema: :data:`SCHEMA` at the time of writing.
        id: Episode id.
        topic: The Proposer's topic.
        proposal_text: The Proposer's raw completion, "" if the proposal was given.
        proposal: The six fields of the parsed proposal, or None.
        failure: Why there is no proposal; set exactly when ``proposal`` is None.
        reward: The Proposer's reward, scored together with the episodes of its
            batch or window.
        codes: One entry a code, in sampling order.
    """

    schema: int
    id: str
    topic: str
    proposal_text: str
    proposal: dict[str, str] | None
    failure: FailureRecord | None
    reward: RewardRecord
    codes: list[CodeRecord]


def episode_to_record(outcome: EpisodeOutcome, rewards: EpisodeRewards) -> EpisodeRecord:
    """A finished episode and its rewards as a record of plain data.

    Args:
        outcome: The finished episode.
        rewards: Its rewards, with one entry for every code.

    Returns:
        The record; ``png`` holds bytes.

    Raises:
        UserError: If the rewards belong to another number of codes.
    """
    if len(outcome.codes) != len(rewards.codes):
        raise UserError(
            f"episode {outcome.id!r} has {len(outcome.codes)} codes, but the rewards are for "
            f"{len(rewards.codes)}; pass the rewards of the same episode."
        )
    codes: list[CodeRecord] = []
    for code, reward in zip(outcome.codes, rewards.codes, strict=True):
        image = code.drawing.image
        codes.append(
            {
                "text": code.text,
                "code": code.code,
                "png": None if image is None else image_to_png(image),
                "failure": cast("FailureRecord | None", failure_info(code.drawing.failure)),
                "flags": list(code.drawing.flags),
                "answers": {name: list(texts) for name, texts in code.answers.items()},
                "reward": _reward(reward.coder),
                "votes": {name: vote_info(vote) for name, vote in reward.votes.items()},
                "solver_rewards": {
                    name: [_reward(each) for each in turns] for name, turns in reward.solver.items()
                },
                "solvability": float(reward.solvability),
                "difficulty": float(reward.difficulty),
            }
        )
    parsed = isinstance(outcome.proposal, Proposal)
    return {
        "schema": SCHEMA,
        "id": outcome.id,
        "topic": outcome.topic,
        "proposal_text": outcome.proposal_text,
        "proposal": asdict(outcome.proposal) if parsed else None,
        "failure": None if parsed else cast("FailureRecord", asdict(outcome.proposal)),
        "reward": _reward(rewards.proposer),
        "codes": codes,
    }


def write_records(path: str | Path, records: Iterable[EpisodeRecord]) -> int:
    """Append records to a JSONL file, one a line, and create it if needed.

    Args:
        path: The file; its folder must exist.
        records: Records as :func:`episode_to_record` makes them.

    Returns:
        Number of records written.
    """
    count = 0
    # ASCII-only JSON keeps lone surrogates, which UTF-8 cannot hold.
    with open(path, "a", encoding="ascii") as file:
        for record in records:
            file.write(json.dumps(record, default=_encode_bytes) + "\n")
            count += 1
    return count


def read_records(path: str | Path) -> Iterator[EpisodeRecord]:
    """Read a JSONL file of records, one by one.

    Args:
        path: A file of :func:`write_records`.

    Yields:
        Records equal to those that were written.

    Raises:
        UserError: If the file is missing, a line is damaged, or it was written
            under another schema; the message names file and line.
    """
    try:
        file = open(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read episode records from {path}: {error.strerror}.") from error
    with file:
        for number, line in enumerate(file, start=1):
            yield _read_line(line, f"{path}, line {number}")


def image_to_png(image: Image) -> bytes:
    """An RGB image, uint8 of shape (H, W, 3), as PNG bytes without loss."""
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(image)).save(buffer, format="png")
    return buffer.getvalue()


def png_to_image(png: bytes) -> Image:
    """The image of :func:`image_to_png`, uint8 of shape (H, W, 3)."""
    return np.asarray(PillowImage.open(io.BytesIO(png)).convert("RGB"))


def replay(
    record: EpisodeRecord, renderer: Renderer, design: RewardDesign
) -> tuple[EpisodeOutcome, EpisodeRewards]:
    """Run one recorded episode again, scored on its own.

    Args:
        record: The episode.
        renderer: Draws its codes; give it the size of the recorded pictures.
        design: Scores it.

    Returns:
        The outcome and rewards that the recorded texts lead to now. Terms that
        compare proposals see this one only; :func:`replay_all` scores a batch.

    Raises:
        UserError: If a proposal parses or a code renders now and did not then, or the
            other way round.
    """
    return replay_all([record], renderer, design)[0]


def replay_all(
    records: Sequence[EpisodeRecord], renderer: Renderer, design: RewardDesign
) -> list[tuple[EpisodeOutcome, EpisodeRewards]]:
    """Run recorded episodes again and score them together.

    Args:
        records: The population, in the order in which it was scored: a batch, or
            an environment's window with the episode of interest last.
        renderer: Draws the codes; give it the size of the recorded pictures.
        design: Scores the population.

    Returns:
        For every record its outcome and rewards.

    Raises:
        UserError: If a proposal parses or a code renders now and did not then, or the
            other way round.
    """
    outcomes = [_replay_outcome(record, renderer) for record in records]
    return list(zip(outcomes, design.score(outcomes), strict=True))


def _replay_outcome(record: EpisodeRecord, renderer: Renderer) -> EpisodeOutcome:
    # A given proposal has no text, so there is nothing of the Proposer to replay.
    given = record["proposal"] is not None and not record["proposal_text"]
    episode = Episode(
        record["id"],
        record["topic"],
        seed=0,
        config=_config_of(record),
        proposal=Proposal(**record["proposal"]) if given and record["proposal"] else None,
    )
    if not given:
        episode.submit(f"{record['id']}/proposer", [Completion(record["proposal_text"])])
    if isinstance(episode.proposal, Proposal) != (record["proposal"] is not None):
        now = "parses" if isinstance(episode.proposal, Proposal) else "does not parse"
        raise UserError(
            f"replay of episode {record['id']!r}: the proposal {now} now, but the record says "
            "otherwise; replay with the version of the recording."
        )
    if not episode.finished:
        texts = [Completion(code["text"]) for code in record["codes"]]
        episode.submit(f"{record['id']}/coder", texts)
    jobs = episode.pending_renders()
    for job, drawing in zip(jobs, renderer.render(jobs), strict=True):
        episode.draw(job.id, drawing)
    for index, ((_, drawing), code) in enumerate(zip(episode.codes, record["codes"], strict=True)):
        if drawing is None or drawing.ok != (code["png"] is not None):
            now = "renders" if drawing is not None and drawing.ok else "does not render"
            raise UserError(
                f"replay of episode {record['id']!r}: code {index} {now} now, but the record says "
                "otherwise; replay with the backend and the limits of the recording."
            )
        for question, answers in code["answers"].items():
            request_id = f"{record['id']}/solver/{index}/{question}"
            episode.submit(request_id, [Completion(text) for text in answers])
    return episode.outcome()


def _config_of(record: EpisodeRecord) -> EpisodeConfig:
    codes = max(1, len(record["codes"]))
    for code in record["codes"]:
        if code["answers"]:
            questions = tuple(cast("Question", question) for question in code["answers"])
            answers = len(code["answers"][questions[0]])
            return EpisodeConfig(codes=codes, answers=answers, questions=questions)
    return EpisodeConfig(codes=codes)


def _reward(reward: TurnReward) -> RewardRecord:
    return {
        "value": float(reward.value),
        "terms": {name: float(value) for name, value in reward.terms.items()},
    }


def _encode_bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise UserError(f"a record holds plain data and PNG bytes, got {type(value).__name__}.")


def _read_line(line: str, where: str) -> EpisodeRecord:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: expected one JSON object, but {error}.") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise UserError(
            f"{where}: expected an episode record of schema {SCHEMA}, got schema {schema!r}."
        )
    missing = EpisodeRecord.__required_keys__ - record.keys()
    codes = record.get("codes", [])
    if not isinstance(codes, list) or not all(isinstance(code, dict) for code in codes):
        raise UserError(f"{where}: 'codes' must be a list of objects, got {codes!r:.100}.")
    for code in codes:
        missing |= CodeRecord.__required_keys__ - code.keys()
    if missing:
        raise UserError(f"{where}: the record lacks {', '.join(sorted(missing))}.")
    for code in record["codes"]:
        if code["png"] is not None:
            try:
                code["png"] = base64.b64decode(code["png"], validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise UserError(f"{where}: 'png' is not base64: {error}.") from error
    return cast("EpisodeRecord", record)
