"""How fast finished episodes are parsed, voted on and scored, on one core.

    python -m benchmarks.scoring [--episodes 2000]

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

from mmzero_env import grading
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


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=2000)
    count = parser.parse_args().episodes
    rng = np.random.default_rng(0)
    written = [texts(rng) for _ in range(count)]
    answered = [
        [(answers(rng, "7"), answers(rng, "7/2")) for _ in range(CODES)] for _ in range(count)
    ]
    print(f"{count} episodes, {CODES} codes, {ANSWERS} answers to each of 2 questions\n")
    print("| design | parsed, voted and scored, episodes a second and core |")
    print("|---|---|")
    for name, design in DESIGNS.items():
        off = {f"proposer.{term}": 0.0 for term in DIVERSITY if term in design.proposer}
        design = get_design(name, **off)
        # Every design starts as a new process would: no answer is known yet.
        grading.forget()
        start = time.process_time()
        design.score([outcome(i, written[i], answered[i]) for i in range(count)])
        print(f"| {name} | {count / (time.process_time() - start):,.0f} |")
    outcomes = [outcome(i, written[i], answered[i]) for i in range(count)]
    third = count // 3
    print(f"\n| design | window of {WINDOW}: ms an episode, first third | last third |")
    print("|---|---|---|")
    for name, design in DESIGNS.items():
        past: deque[EpisodeOutcome] = deque(maxlen=WINDOW)
        spent = []
        for each in outcomes:
            start = time.process_time()
            design.score_last([*past, each])
            spent.append(time.process_time() - start)
            past.append(replace(each, codes=()))
        first, last = np.mean(spent[:third]) * 1e3, np.mean(spent[-third:]) * 1e3
        print(f"| {name} | {first:.2f} | {last:.2f} |")


if __name__ == "__main__":
    main()
