"""``mmzero eval MODEL --suite paper``: from the command line to the table and ``eval.json``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agents
from benchmarks.downstream import harness, models, sets, table
from benchmarks.downstream.evaluation import Evaluation, Looked, Settings, check_pictures, look
from benchmarks.downstream.judge import Judge
from benchmarks.downstream.passes import Graded, change
from benchmarks.downstream.scoring import Item
from benchmarks.provenance import provenance, write_result

QUICK_ITEMS = 16
NANO_TOKENS = 160
"""Longest answer of the bundled model, as on the probe (:class:`agents.probe.Probe`)."""
PICTURES: Mapping[str, tuple[bool, ...]] = {
    "both": (True, False),
    "with": (True,),
    "without": (False,),
}


@dataclass(frozen=True)
class Measured:
    """What was found on one set, with or without the pictures.

    Attributes:
        looked: The set.
        shown: Whether the pictures were shown.
        items: Of every model, what it was asked and wrote, by label.
        rules: Of every model, its verdicts by rules, by label.
        judged: The same by the judge; empty without one.
        own: lmms-eval's own metric of every model, or None.
    """

    looked: Looked
    shown: bool
    items: Mapping[str, list[Item]]
    rules: Mapping[str, Graded]
    judged: Mapping[str, Graded]
    own: Mapping[str, float | None]


def run(args: argparse.Namespace) -> int:
    """Check everything, ask, grade, show.

    Args:
        args: What the parser of :mod:`trainers.eval_command` read.

    Returns:
        0.

    Raises:
        UserError: For a mistake in what was asked, a missing set, a missing harness.
        EngineError: If lmms-eval, a model or the judge failed; what was done is kept.
    """
    chosen = sets.chosen(args.suite)
    asked = models.read(args.model, args.base, no_base=args.no_base, prompts=args.prompts)
    settings = _settings(args, asked.prompts)
    check_pictures(asked.subjects, chosen if True in PICTURES[args.pictures] else ())
    python = harness.find(args.harness)
    judge = agents.make(args.judge) if args.judge else None
    out = args.out or Path("runs") / f"eval-{_slug(args.model)}"
    out.mkdir(parents=True, exist_ok=True)
    offline = args.data is None and any(each.repository for each in chosen)
    offline = offline and not harness.hub_answers()
    if offline:
        _say("the Hugging Face hub does not answer; sets are looked for in its cache")
    with harness.Harness(python, out / "lmms-eval.log", offline=offline) as running:
        _say(f"lmms-eval {running.versions['lmms_eval']} runs; reading {len(chosen)} set(s)")
        looked = look(running, chosen, settings, data=args.data, out=out)
        evaluation = Evaluation(
            out, asked.subjects, settings, PICTURES[args.pictures], running.versions
        )
        evaluation.run(running, looked, concurrency=args.concurrency)
        versions = dict(running.versions)
    keeper = Judge(judge, out / "judge.jsonl") if judge is not None else None
    measured = [
        _measure(evaluation, each, shown, asked.subjects, keeper)
        for each in looked
        for shown in PICTURES[args.pictures]
    ]
    result = {
        "suite": args.suite,
        "models": {subject.label: subject.spec for subject in asked.subjects},
        "settings": vars(settings),
        "judge": args.judge,
        "judge_unclear": keeper.unclear if keeper else 0,
        "sets": [_summary(each) for each in measured],
        "columns": table.columns(measured),
        "lmms_eval": versions,
        **provenance(args.line, (settings.seed,)),
    }
    _write_verdicts(out / "verdicts.jsonl", measured)
    write_result(out / "eval.json", result)
    table.show(measured, result, judged=judge is not None)
    print(f"written: {out / 'eval.json'}, every answer and verdict beside it")
    return 0


def _settings(args: argparse.Namespace, prompts: str) -> Settings:
    items = args.items if args.items is not None else QUICK_ITEMS if args.quick else None
    tokens = NANO_TOKENS if prompts == "nano" else sets.MAX_TOKENS
    return Settings(
        prompts=prompts,
        samples=args.samples,
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=tokens if args.max_tokens is None else args.max_tokens,
        items=items,
        seed=args.seed,
    )


def _measure(
    evaluation: Evaluation,
    each: Looked,
    shown: bool,
    subjects: Sequence[models.Subject],
    judge: Judge | None,
) -> Measured:
    items, rules, judged, own = {}, {}, {}, {}
    for subject in subjects:
        label = subject.label
        items[label], rules[label] = evaluation.graded(each, label, shown)
        own[label] = evaluation.own(each, label, shown)
        if judge is not None:
            _say(f"the judge reads {each.each.name} by {label}")
            judged[label] = judge.over(items[label], rules[label])
    return Measured(each, shown, items, rules, judged, own)


def _summary(measured: Measured) -> dict[str, Any]:
    each = measured.looked.each
    found: dict[str, Any] = {
        "set": each.name,
        "task": each.task,
        "repository": each.repository,
        "pictures": measured.shown,
        "rules_are_a_lower_bound": each.judged,
        "rules": {label: graded.summary() for label, graded in measured.rules.items()},
        "lmms_eval_metric": each.own,
        "lmms_eval_first_answer": dict(measured.own),
    }
    if measured.judged:
        found["judge"] = {label: graded.summary() for label, graded in measured.judged.items()}
    if "base" in measured.rules:
        found["change"] = change(measured.rules["base"], measured.rules["model"])
        if measured.judged:
            found["judge_change"] = change(measured.judged["base"], measured.judged["model"])
    return found


def _write_verdicts(path: Path, measured: Sequence[Measured]) -> None:
    """One line an item, model and condition: what was taken for the answer, what was right."""
    with path.open("w", encoding="utf-8") as file:
        for each in measured:
            for label, graded in each.rules.items():
                for place, row in enumerate(graded.verdicts):
                    line = {
                        "set": each.looked.each.name,
                        "model": label,
                        "pictures": each.shown,
                        "item": graded.items[place],
                        "answer": each.items[label][place].answer,
                        "given": [verdict.given for verdict in row],
                        "state": [verdict.state for verdict in row],
                        "right": [verdict.right for verdict in row],
                    }
                    if each.judged:
                        judged = each.judged[label].verdicts[place]
                        line["judged_right"] = [verdict.right for verdict in judged]
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[-60:] or "model"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
