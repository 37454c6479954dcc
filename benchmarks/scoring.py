"""How fast finished episodes are parsed, voted on and scored, on one core.

    python -m benchmarks.scoring [--episodes 2000] [--rounds 3]

Episodes have 4 codes and 5 answers to each of two questions, with captions of 120 words;
a code is a chart of 36 elements. What is timed per episode: parsing the Proposer's text,
extracting four codes, and all votes, terms and rewards of three roles. Diversity is timed
apart, in the second table: the cost of one more episode in a sliding window of 64, as an
environment pays it.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env import grading
from mmzero_env.errors import UserError
from mmzero_env.parsing import extract_svg, parse_proposal
from mmzero_env.protocol import CodeOutcome, Drawing, EpisodeOutcome, Proposal, Question
from mmzero_env.rewards import DESIGNS, get_design

CODES, ANSWERS, WINDOW = 4, 5, 64
DIVERSITY = ("diversity", "novelty", "batch_share", "topic_share", "paraphrase")
_IMAGE = np.full((8, 8, 3), 255, np.uint8)


def words(rng: np.random.Generator, count: int) -> str:
    """A text of so many words out of 1,500."""
    return " ".join(f"w{word}" for word in rng.integers(0, 1500, count))


def texts(rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """What a Proposer and a Coder wrote."""
    answer = int(rng.integers(100))
    proposal = (
        f"<content_type>table</content_type><caption>{words(rng, 120)}</caption>"
        f"<easy_question>{words(rng, 15)}?</easy_question><easy_answer>{answer}</easy_answer>"
        f"<hard_question>{words(rng, 20)}?</hard_question><hard_answer>{answer}/7</hard_answer>"
    )
    return proposal, tuple(f"```svg\n{picture(rng)}\n```" for _ in range(CODES))


def picture(rng: np.random.Generator) -> str:
    """A chart of twelve bars, each with a label and a value: 36 elements."""
    bars = "".join(
        f'<rect x="{20 * at}" y="{200 - high}" width="15" height="{high}" fill="teal"/>'
        f'<text x="{20 * at}" y="215" font-size="9">{words(rng, 1)}</text>'
        f'<text x="{20 * at}" y="{195 - high}" font-size="9">{high}</text>'
        for at, high in enumerate(rng.integers(5, 180, 12))
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 220">{bars}</svg>'


def wrong(rng: np.random.Generator) -> str:
    """A whole number, a decimal, a fraction, a measure or a word; hardly ever the same."""
    number = int(rng.integers(5000))
    forms = (f"{number}", f"{number / 100}", f"{number}/{rng.integers(1, 9)}", f"{number} cm")
    return (*forms, words(rng, 2))[int(rng.integers(5))]


def answers(rng: np.random.Generator, right: str) -> tuple[str, ...]:
    """What a Solver wrote: right half of the time."""
    given = (right if rng.random() < 0.5 else wrong(rng) for _ in range(ANSWERS))
    return tuple(f"<think>{words(rng, 20)}</think>\\boxed{{{each}}}" for each in given)


def outcome(
    number: int, written: tuple[str, tuple[str, ...]], answered: Sequence[Sequence[tuple[str, ...]]]
) -> EpisodeOutcome:
    """The finished episode; parsing happens here."""
    proposal = parse_proposal(written[0])
    assert isinstance(proposal, Proposal)
    codes = []
    for text, (easy, hard) in zip(written[1], answered, strict=True):
        given: dict[Question, tuple[str, ...]] = {"easy": easy, "hard": hard}
        codes.append(CodeOutcome(text, extract_svg(text), Drawing(_IMAGE), given))
    easy, hard = answered[0]
    return EpisodeOutcome(
        str(number),
        f"topic {number % 8}",
        written[0],
        proposal,
        tuple(codes),
        caption_answers={"easy": easy, "hard": hard},
        blind_answers={"hard": hard},
    )


Answered = Sequence[Sequence[tuple[tuple[str, ...], tuple[str, ...]]]]


def rates(
    written: Sequence[tuple[str, tuple[str, ...]]], answered: Answered, rounds: int
) -> dict[str, list[float]]:
    """Episodes parsed, voted on and scored in a CPU second, by design, one number a round."""
    found: dict[str, list[float]] = {name: [] for name in DESIGNS}
    episodes = list(enumerate(zip(written, answered, strict=True)))
    for _ in range(rounds):
        for name, design in DESIGNS.items():
            off = {f"proposer.{term}": 0.0 for term in DIVERSITY if term in design.proposer}
            design = get_design(name, **off)
            # Every design starts as a new process would: no answer is known yet.
            grading.forget()
            start = time.process_time()
            design.score([outcome(i, *each) for i, each in episodes])
            found[name].append(len(episodes) / (time.process_time() - start))
    return found


def in_window(outcomes: Sequence[EpisodeOutcome], name: str) -> tuple[float, float]:
    """CPU milliseconds an episode in a sliding window, in the first and the last third."""
    design, third = DESIGNS[name], len(outcomes) // 3
    past: deque[EpisodeOutcome] = deque(maxlen=WINDOW)
    spent = []
    for each in outcomes:
        start = time.process_time()
        design.score_last([*past, each])
        spent.append(time.process_time() - start)
        past.append(replace(each, codes=()))
    return float(np.mean(spent[:third]) * 1e3), float(np.mean(spent[-third:]) * 1e3)


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--episodes", type=int, default=2000, help="at least 3")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of the rates")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Both tables."""
    if args.episodes < 3:
        raise UserError(f"--episodes: expected at least 3, got {args.episodes}")
    rng, count = np.random.default_rng(0), args.episodes
    written = [texts(rng) for _ in range(count)]
    answered = [
        [(answers(rng, "7"), answers(rng, "7/2")) for _ in range(CODES)] for _ in range(count)
    ]
    found = rates(written, answered, args.rounds)
    outcomes = [outcome(i, written[i], answered[i]) for i in range(count)]
    costs = {name: in_window(outcomes, name) for name in DESIGNS}
    first, last = zip(*costs.values(), strict=True)
    return Findings(
        {"episodes_a_second": found, "window_ms": costs},
        (
            Table(
                f"episodes a second and core: {count:,} episodes, {CODES} codes, {ANSWERS} "
                "answers to each of 2 questions",
                ("design", "parsed, voted and scored"),
                tuple((name, Spread.of(values).text(0)) for name, values in found.items()),
                "Median over the rounds (smallest to largest); diversity is timed apart.",
            ),
            Table(
                f"one more episode in a window of {WINDOW}, CPU ms",
                ("design", "first third", "last third"),
                tuple((name, f"{a:.2f}", f"{b:.2f}") for name, (a, b) in costs.items()),
            ),
        ),
        (
            Ratio.of("one more episode, last third / first third, over the designs", last, first),
            Ratio.of(
                "episodes a second, mm_zero / mm_zero_official",
                found["mm_zero"],
                found["mm_zero_official"],
            ),
        ),
        seeds=(0,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    return script.run("scoring", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
