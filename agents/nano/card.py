"""The model card of the nano model, written from the record of its pre-training."""

from __future__ import annotations

import json
from pathlib import Path

# Columns of the learning curve: heading and metric of the probe.
_COLUMNS = (
    ("easy greedy", "solver_easy_greedy"),
    ("easy T=1", "solver_easy_sampled"),
    ("hard greedy", "solver_hard_greedy"),
    ("hard T=1", "solver_hard_sampled"),
    ("hard, vote of 4", "solver_hard_majority"),
    ("hard from caption, T=1", "solver_hard_caption"),
    ("code renders", "coder_render"),
    ("code faithful", "coder_faithful"),
    ("proposal valid", "proposer_valid"),
    ("own answer true", "proposer_own_answer"),
)

_TEXT = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# MM-Zero nano

A real `Qwen3VLForConditionalGeneration` of {parameters:,} parameters that plays all three roles of
MM-Zero imperfectly, so that the self-evolution loop can be watched on a laptop. It knows one
procedural world (bars, shapes on a board, printed tables, timelines, chains of boxes at 96 by 96
pixels) and nothing else. transformers, TRL and vLLM load the folder without custom code.

**Its errors are made on purpose.** The demonstrations of the last part of the pre-training err at
random, so at temperature 1 the model errs anew each time while its most likely answer is better: a
vote over samples is right more often than one sample. That is the regime in which self-consistency
can teach anything.

## How it was made

    python -m agents.nano.pretrain

Seed {seed}, {steps:,} steps on one thread of one CPU core, {minutes:.0f} minutes. No data but the
procedural world; specs of the probe are held out by a hash of their caption and were never shown.

## Learning curve

Probe of 100 held-out pictures, running average of the weights. T=1 is the mean accuracy of
samples at temperature 1 without truncation.

| step | {headings} |
|---|{rules}|
{rows}

Mean cross-entropy of the target tokens, in nats:

| step | {tasks} |
|---|{task_rules}|
{losses}

## Prompts

The prompt set `nano` of `mmzero_env.prompts`, as one user message in the chat template. The
Proposer is given one of the eight topics, the Coder a proposal, the Solver a picture or a caption
with a question.
"""


def write(folder: Path, record: Path, *, parameters: int, seed: int) -> None:
    """Write ``README.md`` into a model folder.

    Args:
        folder: The model folder.
        record: Folder of the run, with ``curve.jsonl`` and ``probe.jsonl``.
        parameters: Number of parameters.
        seed: Seed of the run.
    """
    curve = _rows(record / "curve.jsonl")
    probe = _rows(record / "probe.jsonl")
    tasks = [name for name in curve[-1] if name not in ("step", "seconds")]
    every = max(1, len(curve) // 11)
    text = _TEXT.format(
        parameters=parameters,
        seed=seed,
        steps=curve[-1]["step"],
        minutes=curve[-1]["seconds"] / 60,
        headings=" | ".join(heading for heading, _ in _COLUMNS),
        rules="---|" * (len(_COLUMNS) - 1) + "---",
        rows=_table(probe, [metric for _, metric in _COLUMNS]),
        tasks=" | ".join(tasks),
        task_rules="---|" * (len(tasks) - 1) + "---",
        losses=_table(curve[every - 1 :: every], tasks),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _table(rows: list[dict[str, float]], keys: list[str]) -> str:
    return "\n".join(
        f"| {row['step']} | " + " | ".join(_cell(row.get(key)) for key in keys) + " |"
        for row in rows
    )


def _cell(value: float | None) -> str:
    # A task that a phase does not practise has no loss there.
    return "–" if value is None else f"{value:.2f}"
