"""Random groups over the tiny model, with the log-probabilities it gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mmzero_env.protocol import Completion, Request, Response, Sampling
from tests.tiny import TinyPolicy, tiny_qwen3vl
from trainers.groups import Group

IMAGE_PAD = 5
PLAIN = Sampling()
SMALL = {"hidden": 64, "layers": 2, "ffn": 128, "vocab": 272}


def policy_of(seed: int = 0) -> TinyPolicy:
    return TinyPolicy(tiny_qwen3vl(seed=seed, **SMALL))


def logprobs_of(policy: TinyPolicy, request: Request, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities of one completion, computed alone."""
    logits = policy.logits(policy.encode(request), ids)[:-1] / request.sampling.temperature
    return logits.log_softmax(-1)[range(len(ids)), list(ids)]


def group_of(
    policy: TinyPolicy,
    name: str,
    rng: np.random.Generator,
    *,
    n: int = 4,
    size: tuple[int, int] | None = None,
    noise: float = 0.0,
    sampling: Sampling = PLAIN,
) -> Group:
    """A group of random completions, its log-probabilities off by some noise."""
    image = None if size is None else rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    role = "coder" if size is None else "solver"
    request = Request(name, role, f"say {name}?", n, image=image, sampling=sampling)
    done = []
    for _ in range(n):
        ids = tuple(int(token) for token in rng.integers(7, 260, rng.integers(2, 9)))
        with torch.no_grad():
            logps = logprobs_of(policy, request, ids).numpy()
        logps = logps + noise * rng.standard_normal(len(ids))
        done.append(Completion("", ids, tuple(float(value) for value in logps)))
    prompt = tuple(policy.encode(request).prompt_ids)
    return Group(request, Response(name, tuple(done), prompt), tuple(rng.random(n)))


def mixed_groups(policy: TinyPolicy, noise: float = 0.0) -> list[Group]:
    """Two picture sizes, one picture under two questions, and text alone."""
    rng = np.random.default_rng(5)
    groups = [
        group_of(policy, "wide", rng, size=(64, 96), noise=noise),
        group_of(policy, "square one", rng, size=(96, 96), noise=noise),
        group_of(policy, "plain", rng, n=3, noise=noise),
    ]
    again = group_of(policy, "the same again", rng, size=(96, 96), noise=noise)
    shared = replace(again.request, image=groups[1].request.image)
    done = []
    for old in again.response.completions:
        with torch.no_grad():
            logps = logprobs_of(policy, shared, old.token_ids).numpy()
        logps = logps + noise * rng.standard_normal(len(logps))
        done.append(replace(old, logprobs=tuple(float(value) for value in logps)))
    return [
        *groups,
        replace(again, request=shared, response=replace(again.response, completions=tuple(done))),
    ]
