"""The data that a run made for itself, as a Hugging Face dataset.

Two configurations: ``questions``, one row a picture with its two questions and silver
labels, and ``episodes``, the complete records. Both are Parquet files with the pictures
inside, which ``datasets.load_dataset`` opens from the folder as well as from the hub.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmzero_env import parquet
from mmzero_env.errors import UserError
from mmzero_env.protocol import QUESTIONS, Proposal
from mmzero_env.record_files import UnfinishedFile, read_records
from mmzero_env.record_schema import EpisodeRecord
from mmzero_env.recorded import outcome_of
from mmzero_env.rewards import RewardDesign
from mmzero_env.utf8 import escape
from mmzero_env.world import truth
from trainers import config as configs
from trainers.filters import solver_prompts
from trainers.run_config import RunConfig

SHARD = 2**28
"""Bytes of a file of questions, about: 256 MB, what the hub's viewer likes."""

_TEXTS = (
    "id",
    "stage",
    "topic",
    "content_type",
    "caption",
    "code",
    "code_form",
    "easy_question",
    "easy_answer",
    "easy_label",
    "hard_question",
    "hard_answer",
    "hard_label",
    "easy_truth",
    "hard_truth",
)
_NUMBERS = (
    "easy_consistency",
    "hard_consistency",
    "solvability",
    "difficulty",
    "coder_reward",
    "proposer_reward",
)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        rows: Rows of ``questions``.
        kept: Those among them that the run's filters would train the Solver on.
        episodes: Rows of ``episodes``.
        stages: Rows of ``questions`` by iteration and stage.
        skipped: Sentences about files that could not be read to their end.
    """

    rows: int
    kept: int
    episodes: int
    stages: Mapping[str, int]
    skipped: tuple[str, ...] = ()


def write(run: Path, folder: Path, *, only_kept: bool = False) -> Exported:
    """Write the Parquet files of a run.

    Args:
        run: A run directory with recorded episodes.
        folder: Empty folder to fill; gets ``questions/`` and ``episodes/``.
        only_kept: Leave out questions that do not pass the run's filters.

    Returns:
        Counts for the card.

    Raises:
        UserError: If the run has no recorded episode, or a record is damaged.
    """
    from datasets import Dataset, Features, Image, Value

    config = configs.read(run)
    files = sorted((run / "episodes").glob("iter-*.jsonl"))
    if not files:
        raise UserError(
            f"{run} holds no recorded episodes (episodes/iter-I-STAGE.jsonl): nothing to export."
        )
    skipped: list[str] = []
    episodes = sum(_episodes(file, folder / "episodes", skipped) for file in files)
    features = Features(
        {
            "image": Image(),
            **{name: Value("string") for name in _TEXTS},
            **{name: Value("float64") for name in _NUMBERS},
            "iteration": Value("int64"),
            "passes_filters": Value("bool"),
        }
    )
    stages: Counter[str] = Counter()
    kept = 0
    with tempfile.TemporaryDirectory() as cache:

        def rows() -> Iterator[dict[str, Any]]:
            for row in _rows(folder / "episodes", config):
                if row["passes_filters"] or not only_kept:
                    yield row

        if next(rows(), None) is None:
            what = "picture passes the run's filters" if only_kept else "code gave a picture"
            raise UserError(f"{run}: no {what}, so there are no questions to export.")
        table = Dataset.from_generator(rows, features=features, cache_dir=cache)
        assert isinstance(table, Dataset)
        for iteration, stage, passes in zip(
            table["iteration"], table["stage"], table["passes_filters"], strict=True
        ):
            stages[f"{iteration}/{stage}"] += 1
            kept += passes
        count = max(1, -(-(table.data.nbytes or 0) // SHARD))
        (folder / "questions").mkdir()
        for index in range(count):
            name = f"train-{index:05d}-of-{count:05d}.parquet"
            table.shard(count, index, contiguous=True).to_parquet(folder / "questions" / name)
        found = Exported(len(table), kept, episodes, dict(stages), tuple(skipped))
    return found


def _episodes(file: Path, folder: Path, skipped: list[str]) -> int:
    """A file of records as Parquet; a torn last line of a run that goes on is left out."""

    def whole() -> Iterator[EpisodeRecord]:
        try:
            yield from read_records(file)
        except UnfinishedFile:
            skipped.append(f"The last episode of {file.name} is cut off and was left out.")

    folder.mkdir(exist_ok=True)
    return parquet.write(folder / f"{file.stem}.parquet", whole())


def _rows(folder: Path, config: RunConfig) -> Iterator[dict[str, Any]]:
    design = config.design()
    for file in sorted(folder.glob("*.parquet")):
        _, iteration, stage = file.stem.split("-", 2)
        for record in parquet.read(file):
            for row in _pictures(record, design, config):
                yield {**row, "iteration": int(iteration), "stage": stage}


def _pictures(
    record: EpisodeRecord, design: RewardDesign, config: RunConfig
) -> Iterator[dict[str, Any]]:
    """One row for every code of an episode that gave a picture."""
    outcome = outcome_of(record)
    if not isinstance(outcome.proposal, Proposal):
        return
    # Labels are an episode's own; what compares episodes is read from the record.
    (scored,) = design.score([outcome])
    passing = {row.id for row in solver_prompts([outcome], [scored], config.filters, design)}
    proposal = outcome.proposal
    for index, (code, recorded) in enumerate(zip(outcome.codes, record["codes"], strict=True)):
        if recorded["png"] is None:
            continue
        labels = scored.codes[index].labels
        row: dict[str, Any] = {
            "image": {"bytes": recorded["png"], "path": None},
            "id": f"{outcome.id}/{index}",
            "topic": outcome.topic,
            "content_type": proposal.content_type,
            "caption": proposal.caption,
            "code": code.code,
            "code_form": code.form,
            "solvability": recorded["solvability"],
            "difficulty": recorded["difficulty"],
            "coder_reward": recorded["reward"]["value"],
            "proposer_reward": record["reward"]["value"],
            "passes_filters": f"{outcome.id}/{index}" in passing,
        }
        for level in QUESTIONS:
            label = labels.get(level)
            row[f"{level}_question"] = proposal.question(level)
            row[f"{level}_answer"] = getattr(proposal, f"{level}_answer")
            row[f"{level}_label"] = None if label is None else label.winner
            row[f"{level}_consistency"] = None if label is None else label.consistency
            row[f"{level}_truth"] = truth(proposal, level)
        # Lone surrogates, which a server's JSON may hold, are no text to Parquet.
        yield {k: escape(v) if isinstance(v, str) else v for k, v in row.items()}
