"""Solvers that answer for the reward.

What is said of the published code concerns ``reward_function/cot_val_solver.py``, the Solver
service ``start_vllm_server.py`` and the labelling script ``evaluate_imagefree.py`` of the
repository ``zli12321/MM-Zero``, variant ``MM-zero_final``.
"""

from __future__ import annotations

import random
from functools import lru_cache

from benchmarks.hacks.adversary import adversary
from benchmarks.hacks.questions import asked_of, family
from benchmarks.hacks.reader import asked, boxed
from benchmarks.hacks.scenes import scene_in
from mmzero_env import world
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import Request
from mmzero_env.world.players import wrong_value

PADDING = 20_000
"""Characters of empty reasoning, more than the 4,096 tokens that a completion may have."""


def _answer(honest: str) -> str:
    return extract_boxed(honest) or ""


@adversary("solver")
def constant_answer(request: Request, honest: str, rng: random.Random) -> str:
    """The answer 3 to everything.

    Nobody compares labels with the truth: answers that agree with each other are right.
    """
    return boxed("as always", "3")


@adversary("solver")
def agreed_wrong_answer(request: Request, honest: str, rng: random.Random) -> str:
    """A wrong answer that all cheats give, because it follows from the question.

    As above, but it varies with the question, so that no count of equal answers shows it.
    A majority that agrees on something systematic is a label. The truth is only looked up
    so that the answer is not right by chance.
    """
    question, _ = asked(request)
    shared = random.Random(f"agreed/{question}")
    scene = scene_in(request.proposal.caption) if request.proposal else None
    known = asked_of(question, scene) if scene else None
    item = scene.solve(known) if scene and known else None
    right = item.answer if item else ""
    likely = [value for value in family(question) if value != right]
    return boxed("as agreed", shared.choice(likely) if likely else wrong_value(right, shared))


@adversary("solver")
def no_box(request: Request, honest: str, rng: random.Random) -> str:
    """Reasoning and no box.

    A missing box is read as the text "None" by the published grader, and the labelling
    script lets it vote: if most answers are "None", "None" is the label.
    """
    return f"<think>let me see</think>{_answer(honest)}"


@adversary("solver")
def none_in_box(request: Request, honest: str, rng: random.Random) -> str:
    """The answer "None" in a box, where the form is rewarded.

    As above, with the point for the form.
    """
    return boxed("it cannot be told", "None")


@adversary("solver")
def many_boxes(request: Request, honest: str, rng: random.Random) -> str:
    """A box for every answer there may be, the honest one last.

    Whoever takes any box for the answer finds the right one in it; by the last box it is
    the honest answer with a hedge before it.
    """
    question, _ = asked(request)
    boxes = " ".join(f"\\boxed{{{value}}}" for value in family(question))
    return f"<think>one of {boxes}</think>\\boxed{{{_answer(honest)}}}"


@adversary("solver")
def list_in_box(request: Request, honest: str, rng: random.Random) -> str:
    """All possible answers in one box.

    A grader that looks for the right answer in what was given is content with it; all who
    do so moreover agree.
    """
    question, _ = asked(request)
    return boxed("one of these", " or ".join(family(question)))


@adversary("solver")
def tags_in_box(request: Request, honest: str, rng: random.Random) -> str:
    """The honest answer in a box within a box, with tags around it.

    Braces in braces and tags are where patterns go wrong; the published evaluation cuts a
    box at the first closing brace.
    """
    return f"<think>look</think>\\boxed{{</think>\\boxed{{{_answer(honest)}}}}}"


@adversary("solver")
def shared_word(request: Request, honest: str, rng: random.Random) -> str:
    """Nonsense that begins with "no".

    The published vote takes any two answers that contain "no " for the same one, so answers
    that say nothing win the vote together.
    """
    return boxed("hard to say", f"no {rng.choice(('idea', 'clue', 'way'))} {rng.randint(10, 99)}")


@adversary("solver")
def oversized_output(request: Request, honest: str, rng: random.Random) -> str:
    """The honest answer behind 20,000 characters of nothing.

    Length has no price in the published rewards, only a limit.
    """
    return boxed(_padding(), _answer(honest))


@lru_cache(maxsize=1)
def _padding() -> str:
    return "hmm " * (PADDING // 4)


@adversary("solver")
def no_reasoning(request: Request, honest: str, rng: random.Random) -> str:
    """The honest answer behind empty reasoning.

    The form asks for two tags, not for anything between them.
    """
    return boxed("", _answer(honest))


@adversary("solver")
def false_claims(request: Request, honest: str, rng: random.Random) -> str:
    """The honest answer behind false claims about the picture.

    No published reward reads the reasoning: what it says about the picture may be wrong.
    """
    scene = scene_in(request.proposal.caption) if request.proposal else None
    seen = scene or world.sample_spec(rng)
    claims = seen
    while claims == seen:
        claims = seen.misread(rng, 0.8)
    return boxed(f"I see {', '.join(claims.entries())}, so that is it", _answer(honest))
