"""Requests to play with."""

from __future__ import annotations

import numpy as np

from mmzero_env.protocol import ROLES, Image, Request, Role, Sampling

PROMPTS: dict[Role, str] = {
    "proposer": "Topic: red shapes. Propose a picture and two questions.",
    "coder": "Draw: three red circles and a blue square.",
    "solver": "How many red shapes are there?",
}


def picture(number: int) -> Image:
    """A picture that differs from number to number."""
    image = np.full((96, 96, 3), 255, np.uint8)
    rng = np.random.default_rng(number)
    for _ in range(3):
        row, column = rng.integers(0, 70, 2)
        image[row : row + 24, column : column + 24] = rng.integers(0, 255, 3)
    return image


def some(count: int, *, n: int = 2, max_tokens: int = 24, tag: str = "r") -> list[Request]:
    """Requests of the three roles in turn; the Solver's have pictures."""
    return [
        Request(
            f"{tag}/{i}",
            role := ROLES[i % 3],
            f"{PROMPTS[role]} ({i})",
            n=n,
            image=picture(i) if role == "solver" else None,
            sampling=Sampling(temperature=(1.0, 0.7, 1.0)[i % 3], max_tokens=max_tokens),
            seed=1000 * i,
        )
        for i in range(count)
    ]
