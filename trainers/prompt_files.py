"""What a stage learns from, on disk: collected once, read back when the stage is resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmzero_env.errors import UserError
from mmzero_env.protocol import Proposal
from trainers import atomic
from trainers.filters import LabelledQuestion

_ROWS, _IMAGES = "rows.json", "images.npz"


def save_proposals(folder: Path, proposals: Sequence[Proposal]) -> None:
    """Write proposals into a folder that must not be there yet, whole or not at all."""
    _save(folder, [asdict(proposal) for proposal in proposals], None)


def load_proposals(folder: Path) -> list[Proposal]:
    """Read what :func:`save_proposals` wrote.

    Raises:
        UserError: If a file is missing or damaged.
    """
    return [Proposal(**row) for row in _rows(folder)]


def save_questions(folder: Path, questions: Sequence[LabelledQuestion]) -> None:
    """Write labelled questions with their pictures, whole or not at all."""
    rows = [
        {
            "id": question.id,
            "proposal": asdict(question.proposal),
            "question": question.question,
            "label": question.label,
            "easy_agrees": question.easy_agrees,
            "svg": question.svg,
        }
        for question in questions
    ]
    _save(folder, rows, [question.image for question in questions])


def load_questions(folder: Path) -> list[LabelledQuestion]:
    """Read what :func:`save_questions` wrote.

    Raises:
        UserError: If a file is missing or damaged.
    """
    rows = _rows(folder)
    path = folder / _IMAGES
    try:
        with np.load(path) as file:
            images = [file[str(place)] for place in range(len(rows))]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return [
        LabelledQuestion(
            row["id"],
            Proposal(**row["proposal"]),
            image,
            row["question"],
            row["label"],
            row["easy_agrees"],
            # Stages that began before codes were kept go on without.
            row.get("svg"),
        )
        for row, image in zip(rows, images, strict=True)
    ]


def _save(folder: Path, rows: Sequence[Any], images: Sequence[Any] | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(folder) as draft:
        (draft / _ROWS).write_text(json.dumps(rows) + "\n", encoding="utf-8")
        if images is not None:
            named = {str(place): image for place, image in enumerate(images)}
            np.savez(draft / _IMAGES, allow_pickle=False, **named)


def _rows(folder: Path) -> list[Any]:
    path = folder / _ROWS
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise ValueError(f"a list was expected, got {type(rows).__name__}")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return rows


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged ({error}). Remove the folder {path.parent.parent}: the stage then "
        "begins again and comes out the same."
    )
