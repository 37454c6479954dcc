"""One evaluation: every set by every model, with and without the pictures, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, Cells
from benchmarks.downstream import probe_data
from benchmarks.downstream.harness import Harness
from benchmarks.downstream.models import Endpoint, Subject, answering
from benchmarks.downstream.passes import Graded
from benchmarks.downstream.scoring import Item, grade
from benchmarks.downstream.sets import BenchmarkSet, how_to_copy, local_copy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.prompts import get_prompts

CELL_ANSWERS = 512
"""Answers of one cell, about: what is lost at most when an evaluation is stopped."""
PROBE_PICTURES = 300
ATTEMPTS = 3
"""Times that lmms-eval tries a request, each of which its client repeats twice more."""

Key = tuple[str, str, bool]
"""A model's label, a set, and whether the pictures were shown."""


@dataclass(frozen=True)
class Settings:
    """What every answer depends on beside model, set and item.

    Attributes:
        prompts: Prompt set whose Solver's wording is used.
        samples: Answers an item.
        temperature: Of sampling.
        top_p: Of sampling.
        max_tokens: Longest answer.
        items: Most items of a set, spread evenly over it; None for all.
        seed: Of sampling, and of the probe's items.
    """

    prompts: str
    samples: int
    temperature: float
    top_p: float
    max_tokens: int
    items: int | None
    seed: int

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            UserError: Naming the option.
        """
        for name in ("samples", "max_tokens", "items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} expects 1 or more, got {value}")
        if not 0 <= self.temperature or not 0 < self.top_p <= 1:
            raise UserError(
                "expected --temperature of 0 or more and --top-p above 0 and at most 1, got "
                f"{self.temperature} and {self.top_p}"
            )
        if self.temperature == 0 and self.samples > 1:
            raise UserError(
                f"at temperature 0 all {self.samples} answers to an item are the same; "
                "give --samples 1"
            )
        get_prompts(self.prompts)

    @property
    def generation(self) -> dict[str, Any]:
        """As lmms-eval names it."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_tokens,
            "do_sample": self.temperature > 0,
        }


@dataclass(frozen=True)
class Looked:
    """A set that was read.

    Attributes:
        each: The set.
        order: What the driver needs to know of it.
        items: How many items are asked.
    """

    each: BenchmarkSet
    order: Mapping[str, Any]
    items: int


def look(
    harness: Harness,
    sets: Sequence[BenchmarkSet],
    settings: Settings,
    *,
    data: Path | None,
    out: Path,
) -> list[Looked]:
    """Read every set before anything is asked.

    Args:
        harness: Runs lmms-eval.
        sets: Which.
        settings: Of the evaluation.
        data: Folder with local copies, or None.
        out: The probe is written into it, if it is among the sets.

    Raises:
        UserError: If one cannot be read; names all such sets and how to provide each.
    """
    found, problems = [], []
    for each in sets:
        try:
            order = each.order(data=_folder(each, settings, data, out), limit=settings.items)
        except UserError as error:
            problems.append(f"{each.name}: {error}")
            continue
        answer = harness.look(order)
        if "error" in answer:
            where = order["changes"].get("dataset_path", each.repository)
            problems.append(
                f"{each.name}: its data set {where} cannot be read ({answer['error']}). "
                + (how_to_copy(each, data) if each.repository else "")
            )
            continue
        missing = sorted({each.answer, each.question} - {"", *answer["columns"]})
        if missing and not each.in_picture:
            problems.append(
                f"{each.name}: expected the columns {', '.join(missing)} in "
                f"{answer['repository']}, found {', '.join(answer['columns'])}"
            )
            continue
        found.append(Looked(each, order, answer["items"]))
    if problems:
        raise UserError("nothing was asked, since sets are missing:\n" + "\n".join(problems))
    return found


def _folder(each: BenchmarkSet, settings: Settings, data: Path | None, out: Path) -> Path | None:
    if each.repository:
        return local_copy(each, data)
    pictures = PROBE_PICTURES
    if settings.items is not None:
        # Two questions a picture, and at least one picture of each of the five kinds.
        pictures = max(5, -(-settings.items // 2))
    name = f"{each.name}-{pictures}-seed-{settings.seed}"
    return probe_data.write(out / "data" / name, pictures=pictures, seed=settings.seed)


def check_pictures(subjects: Sequence[Subject], sets: Sequence[BenchmarkSet]) -> None:
    """Refuse sets with several pictures an item for models that this process plays.

    Raises:
        UserError: Naming them.
    """
    several = [each.name for each in sets if each.several]
    played = [subject.spec for subject in subjects if not subject.remote]
    if several and played:
        raise UserError(
            f"{', '.join(several)}: items can hold several pictures, and {played[0]} played by "
            "this process takes one. Serve it with vLLM (mmzero serve --set serve.pictures=8) and "
            "name the server: vllm:BASE@URL"
        )


class Evaluation:
    """The cells of one evaluation and the answers they left.

    Args:
        out: Output folder; cells that are done there are not done again.
        subjects: The models.
        settings: Of the evaluation.
        pictures: Whether items are asked with pictures, without, or both.

    Raises:
        UserError: If the folder holds an evaluation with other settings.
    """

    def __init__(
        self,
        out: Path,
        subjects: Sequence[Subject],
        settings: Settings,
        pictures: Sequence[bool],
        versions: Mapping[str, str],
    ):
        self._out, self._subjects, self._settings = out, subjects, settings
        self._pictures = pictures
        self._cells = Cells(
            out,
            {
                **vars(settings),
                "models": {subject.label: subject.spec for subject in subjects},
                "lmms_eval": versions["lmms_eval"],
            },
        )

    def run(self, harness: Harness, looked: Sequence[Looked], *, concurrency: int) -> None:
        """Ask what was not asked yet.

        Raises:
            EngineError: If lmms-eval or a model failed; what was done is kept.
        """
        for subject in self._subjects:
            parts = self._parts(subject, looked)
            if all(key in self._cells.done for key in parts):
                continue
            with answering(subject) as endpoint:
                where = {
                    "url": endpoint.url,
                    "model": endpoint.model,
                    "key": endpoint.key,
                    "local": endpoint.local,
                    "concurrency": concurrency,
                    "attempts": ATTEMPTS,
                }
                work = {
                    key: partial(self._ask, harness, endpoint, {**order, "endpoint": where})
                    for key, order in parts.items()
                }
                self._cells.run(work, title=f"{subject.label} ({subject.spec})")

    def _parts(self, subject: Subject, looked: Sequence[Looked]) -> dict[str, dict[str, Any]]:
        size = max(1, CELL_ANSWERS // self._settings.samples)
        parts = {}
        for each in looked:
            for shown in self._pictures:
                for start in range(0, each.items, size):
                    stop = min(start + size, each.items)
                    key = self._key(subject.label, each.each.name, shown, start)
                    parts[key] = {
                        "set": each.order,
                        "start": start,
                        "stop": stop,
                        "picture": shown,
                        "samples": self._settings.samples,
                        "seed": self._settings.seed,
                        "template": get_prompts(self._settings.prompts).solver_template,
                        "generation": self._settings.generation,
                        "file": str((self._out / "answers" / f"{key}.jsonl").absolute()),
                    }
        return parts

    @staticmethod
    def _key(label: str, name: str, shown: bool, start: int) -> str:
        return f"{label}/{name}/{'with' if shown else 'without'}-pictures/{start:06d}"

    def _ask(self, harness: Harness, endpoint: Endpoint, order: Mapping[str, Any]) -> Cell:
        done = harness.ask(**order)
        if done["failed"]:
            endpoint.served()
            # Our own failure is never a wrong answer; a server that is up and gives nothing to
            # any item has one.
            if endpoint.ours is not None or done["failed"] == done["answers"]:
                why = endpoint.ours.failure if endpoint.ours is not None else None
                raise EngineError(
                    f"{done['failed']} of {done['answers']} requests to {endpoint.url} failed: "
                    f"{why or done['failure']}. What was done is kept; call again to go on"
                )
        return {name: done[name] for name in ("items", "answers", "failed", "own")}

    def graded(self, each: Looked, label: str, shown: bool) -> tuple[list[Item], Graded]:
        """The answers of a model to a set, and their verdicts by rules.

        Raises:
            UserError: If files of answers are missing.
        """
        items: list[Item] = []
        for key in self._of(each, label, shown):
            path = self._out / "answers" / f"{key}.jsonl"
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise UserError(
                    f"{path} is gone ({error}), which {self._out} says was asked; delete that "
                    "folder to start again"
                ) from error
            items += [Item.read(json.loads(line)) for line in lines]
        verdicts = tuple(
            tuple(grade(each.each, item, text) for text in item.texts) for item in items
        )
        return items, Graded(tuple(item.item for item in items), verdicts)

    def own(self, each: Looked, label: str, shown: bool) -> float | None:
        """lmms-eval's own metric over the first answer to every item, or None."""
        cells = [self._cells.done[key] for key in self._of(each, label, shown)]
        if any(cell["own"] is None for cell in cells):
            return None
        total = sum(cell["items"] for cell in cells)
        return each.each.own_scale * sum(cell["own"] * cell["items"] for cell in cells) / total

    def _of(self, each: Looked, label: str, shown: bool) -> list[str]:
        subject = next(subject for subject in self._subjects if subject.label == label)
        prefix = f"{label}/{each.each.name}/{'with' if shown else 'without'}-pictures/"
        return [key for key in self._parts(subject, [each]) if key.startswith(prefix)]
