"""Requests of episodes about one scene, made by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.hacks.scenes import Gallery
from mmzero_env import world
from mmzero_env.episode import Episode
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import Image, Proposal, RenderJob, Request


def bars() -> Proposal:
    scene = world.parse_caption("Bar chart: red 5, blue 7, green 2.")
    assert scene is not None
    return Proposal(
        scene.content_type,
        scene.caption(),
        "What is the value of the red bar?",
        "5",
        "What is the sum of the red and blue bars?",
        "12",
    )


def proposal_of(text: str) -> Proposal:
    proposal = parse_proposal(text)
    assert isinstance(proposal, Proposal)
    return proposal


def coder_request(proposal: Proposal) -> Request:
    return Episode("e", "t", 0, proposal=proposal).open_requests()[0]


def picture(gallery: Gallery, svg: str) -> Image:
    (drawing,) = gallery.render([RenderJob("a", svg)])
    assert drawing.image is not None, drawing.failure
    return drawing.image


def solver_request(
    proposal: Proposal, level: str, image: Image | None, n: int = 400, prompt: str = ""
) -> Request:
    return Request(
        f"e/solver/0/{level}", "solver", prompt, n=n, image=image, seed=3, proposal=proposal
    )


def scenes(count: int) -> Iterator[world.Spec]:
    for number in range(count):
        yield world.sample_spec(random.Random(number), tuple(world.KINDS)[number % 5])
