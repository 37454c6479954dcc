"""Finished episodes as records, and records on disk.

    records = batch_to_records(episodes, rewards, design=design, renderer=renderer)
    write_records("episodes.jsonl", records)
    for record in read_records("episodes.jsonl"):
        ...

Two forms hold the same: JSONL (one record a line, pictures as base64 PNG) and Parquet
(pictures as image bytes, which data set viewers show). :mod:`mmzero_env.replay` plays
records again.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import metadata
from typing import Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image as PillowImage

from mmzero_env import __version__
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import ROLES, EpisodeOutcome, EpisodeRewards, Image, Proposal, TurnReward
from mmzero_env.record_files import (
    UnfinishedFile,
    convert,
    pick_records,
    read_records,
    record_files,
    write_records,
)
from mmzero_env.record_schema import (
    SCHEMA,
    CodeRecord,
    ConfigRecord,
    DesignRecord,
    EpisodeRecord,
    FailureRecord,
    ProposalRecord,
    RenderRecord,
    RewardRecord,
    Scalar,
    VoteRecord,
)
from mmzero_env.rendering import RenderLimits
from mmzero_env.rendering.backends import backend_versions, resolve_backend
from mmzero_env.rewards import DESIGNS, Constants, RewardDesign

__all__ = [
    "SCHEMA",
    "CodeRecord",
    "Drawer",
    "EpisodeRecord",
    "FailureRecord",
    "RewardRecord",
    "UnfinishedFile",
    "VoteRecord",
    "batch_to_records",
    "convert",
    "drawing_versions",
    "episode_to_record",
    "image_to_png",
    "pick_records",
    "png_to_image",
    "read_records",
    "record_files",
    "write_records",
]


@runtime_checkable
class Drawer(Protocol):
    """What a record says of the renderer: see :class:`mmzero_env.rendering.Renderer`."""

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        ...

    @property
    def limits(self) -> RenderLimits:
        """Limits of one rendering."""
        ...

    @property
    def backend(self) -> str:
        """Name of the drawing backend."""
        ...


def episode_to_record(
    outcome: EpisodeOutcome,
    rewards: EpisodeRewards,
    *,
    seed: int | None = None,
    config: EpisodeConfig | None = None,
    design: RewardDesign | None = None,
    renderer: Drawer | None = None,
    batch: str | None = None,
    population: int = 1,
    memory: Sequence[Sequence[str]] = (),
) -> EpisodeRecord:
    """A finished episode and its rewards as a record of plain data.

    What is left out is recorded as not known: a replay then has to be told the design,
    and takes the picture size from the pictures.

    Args:
        outcome: The finished episode.
        rewards: Its rewards, with one entry for every code.
        seed: The episode's seed, a signed 64-bit number.
        config: The episode's shape; read off the outcome if it is not given.
        design: What scored it.
        renderer: What drew it.
        batch: Name of the batch that it was scored with.
        population: Number of episodes that it was scored with, itself included.
        memory: Captions of earlier steps that it was scored with, oldest first.

    Returns:
        The record; ``png`` holds bytes.

    Raises:
        UserError: If the rewards belong to another number of codes, the seed is too
            large, or ``population`` is below one.
    """
    if len(outcome.codes) != len(rewards.codes):
        raise UserError(
            f"episode {outcome.id!r} has {len(outcome.codes)} codes, but the rewards are for "
            f"{len(rewards.codes)}; pass the rewards of the same episode."
        )
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise UserError(f"the seed of a record must fit into 64 bits, got {seed}.")
    if population < 1:
        raise UserError(f"population counts the episode itself, so it is at least 1: {population}.")
    codes: list[CodeRecord] = []
    for code, reward in zip(outcome.codes, rewards.codes, strict=True):
        image, failure = code.drawing.image, code.drawing.failure
        codes.append(
            {
                "text": code.text,
                "code": code.code,
                "form": code.form,
                "png": None if image is None else image_to_png(image),
                "failure": None if failure is None else cast("FailureRecord", asdict(failure)),
                "flags": list(code.drawing.flags),
                "answers": {name: list(texts) for name, texts in code.answers.items()},
                "reward": _reward(reward.coder),
                "votes": {
                    name: {
                        "winner": vote.winner,
                        "consistency": float(vote.consistency),
                        "valid": vote.valid,
                        "total": vote.total,
                    }
                    for name, vote in reward.votes.items()
                },
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
        "seed": seed,
        "batch": batch,
        "population": population,
        "memory": [list(step) for step in memory],
        "config": _config(config) if config is not None else _apparent_config(outcome),
        "design": None if design is None else _design(design),
        "render": None if renderer is None else _render(renderer),
        "versions": dict(drawing_versions("cairosvg" if renderer is None else renderer.backend)),
        "topic": outcome.topic,
        "proposal_text": outcome.proposal_text,
        "proposal": cast("ProposalRecord", asdict(outcome.proposal)) if parsed else None,
        "failure": None if parsed else cast("FailureRecord", asdict(outcome.proposal)),
        "caption_answers": {q: list(texts) for q, texts in outcome.caption_answers.items()},
        "blind_answers": {q: list(texts) for q, texts in outcome.blind_answers.items()},
        "reward": _reward(rewards.proposer),
        "codes": codes,
    }


def batch_to_records(
    episodes: Sequence[Episode],
    rewards: Sequence[EpisodeRewards],
    *,
    design: RewardDesign,
    renderer: Drawer | None = None,
    memory: Sequence[Sequence[str]] = (),
) -> list[EpisodeRecord]:
    """Episodes that were scored together as records that can be replayed together.

    The batch is named after its first episode, since episode ids are unique in a run.

    Args:
        episodes: Finished episodes, in the order in which they were scored.
        rewards: Their rewards.
        design: What scored them.
        renderer: What drew them.
        memory: What ``design.score`` was given as ``memory``; the part of it that the
            design looks at is recorded, once.

    Returns:
        One record an episode; write them to one file, in this order.

    Raises:
        UserError: If the numbers of episodes and rewards differ, or an episode is not
            finished.
    """
    if len(episodes) != len(rewards):
        raise UserError(f"{len(episodes)} episodes came with {len(rewards)} rewards.")
    steps = design.constants.memory_steps
    seen = memory[-steps:] if steps else ()
    return [
        episode_to_record(
            episode.outcome(),
            scored,
            seed=episode.seed,
            config=episode.config,
            design=design,
            renderer=renderer,
            batch=episodes[0].id,
            population=len(episodes),
            memory=() if index else seen,
        )
        for index, (episode, scored) in enumerate(zip(episodes, rewards, strict=True))
    ]


def image_to_png(image: Image) -> bytes:
    """An RGB image, uint8 of shape (H, W, 3), as PNG bytes without loss."""
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(image)).save(buffer, format="png")
    return buffer.getvalue()


def png_to_image(png: bytes) -> Image:
    """The image of :func:`image_to_png`, uint8 of shape (H, W, 3).

    Raises:
        UserError: If the bytes are no whole PNG file.
    """
    try:
        return np.asarray(PillowImage.open(io.BytesIO(png), formats=["png"]).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"expected PNG bytes of a whole picture, but {error}.") from error


def _reward(reward: TurnReward) -> RewardRecord:
    return {
        "value": float(reward.value),
        "terms": {name: float(value) for name, value in reward.terms.items()},
    }


def _config(config: EpisodeConfig) -> ConfigRecord:
    return {
        "codes": config.codes,
        "answers": config.answers,
        "questions": list(config.questions),
        "prompts": get_prompts(config.prompts).name,
        "code_forms": list(config.code_forms),
    }


def _apparent_config(outcome: EpisodeOutcome) -> ConfigRecord:
    asked = next((code.answers for code in outcome.codes if code.answers), {})
    counts = [len(texts) for texts in asked.values()]
    shape = EpisodeConfig()
    return {
        "codes": len(outcome.codes) or shape.codes,
        "answers": counts[0] if counts else shape.answers,
        "questions": list(asked) or list(shape.questions),
        "prompts": "",
        "code_forms": list(dict.fromkeys(c.form for c in outcome.codes if c.form))
        or list(shape.code_forms),
    }


def _design(design: RewardDesign) -> DesignRecord:
    """The registered design of the same name, and how this one differs from it."""
    base = DESIGNS.get(design.name)
    if base is None:
        return {"name": design.name, "overrides": None}
    overrides: dict[str, Scalar] = {
        item.name: getattr(design.constants, item.name)
        for item in fields(Constants)
        if getattr(design.constants, item.name) != getattr(base.constants, item.name)
    }
    for role in ROLES:
        before = getattr(base, role)
        for term, weight in getattr(design, role).items():
            if term not in before or before[term] != weight:
                overrides[f"{role}.{term}"] = weight
    made = base.with_overrides(**overrides) if overrides else base
    return {"name": design.name, "overrides": overrides if made == design else None}


def _render(renderer: Drawer) -> RenderRecord:
    usual = asdict(RenderLimits())
    limits = asdict(renderer.limits)
    return {
        "size": renderer.size,
        # The name in full: other bindings of one library draw other pixels.
        "backend": resolve_backend(renderer.backend),
        "limits": {name: value for name, value in limits.items() if value != usual[name]},
    }


@functools.cache
def drawing_versions(backend: str) -> dict[str, str]:
    """Versions of this package and of the libraries that decide on a backend's pixels.

    Args:
        backend: Name of the backend.

    Returns:
        Versions by name; do not change it. What is not installed is left out.
    """
    found = {"mmzero-env": __version__, "cairosvg": metadata.version("cairosvg")}
    try:
        # cairocffi loads libcairo when it is imported; other backends do without it.
        found |= backend_versions(resolve_backend(backend))
    except OSError:
        pass
    return found
