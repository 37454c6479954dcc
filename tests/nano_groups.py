"""The nano model as a plain policy in any precision, and groups over pictures of three sizes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import agents
from agents.adapters import AdapterSettings, RoleView, with_adapters
from mmzero_env.protocol import Request, Sampling
from tests.tiny import TinyPolicy
from tests.tiny_groups import group_of, logprobs_of
from trainers.groups import Group


class Nano(TinyPolicy):
    """The nano model with the trainable's plain surface; with ``lora`` a Coder's adapter."""

    def __init__(self, dtype: torch.dtype, lora: AdapterSettings | None = None) -> None:
        """See the class."""
        policy: Any = agents.make("nano")
        policy.model.to(dtype)
        if lora is not None:
            policy = with_adapters(policy, lora, seed=3)
            disturb(policy.model, "coder", seed=4)
            policy.model.set_adapter("coder")
        self.inner = policy
        self.model = policy.model
        self.tokenizer = policy.tokenizer
        self.image_processor = policy.image_processor

    def encode(self, request: Request) -> Any:
        """As the nano policy reads it."""
        return self.inner.encode(request)

    def copy(self) -> Nano:
        """The same weights in a model of its own."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        return other

    def view(self) -> RoleView:
        """The Coder of the model with adapters, as the loop trains it."""
        self.inner.model = self.model
        return RoleView(self.inner, "coder")


def disturb(model: Any, adapter: str, seed: int) -> None:
    """Make an adapter do something."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if f"lora_B.{adapter}." in name:
            noise = torch.randn(weight.shape, generator=generator)
            weight.data += 0.05 * noise.to(weight)


def nano_groups(policy: TinyPolicy, noise: float, temperature: float = 1.0) -> list[Group]:
    """Three picture sizes, one picture under two questions, text alone, and equal rewards."""
    rng = np.random.default_rng(5)
    sampling = Sampling(temperature)
    sizes = {"wide": (64, 96), "square": (96, 96), "long": (48, 144), "plain": None}
    groups = [
        group_of(policy, name, rng, n=3, size=size, noise=noise, sampling=sampling)
        for name, size in sizes.items()
    ]
    again = group_of(policy, "the same again", rng, n=3, size=(96, 96), sampling=sampling)
    shared = replace(again.request, image=groups[1].request.image)
    done = []
    for old in again.response.completions:
        with torch.no_grad():
            logps = logprobs_of(policy, shared, old.token_ids).numpy()
        done.append(replace(old, logprobs=tuple(float(value) for value in logps)))
    again = replace(
        again, request=shared, response=replace(again.response, completions=tuple(done))
    )
    dull = group_of(policy, "dull", rng, n=3, noise=noise, sampling=sampling)
    return [*groups, again, replace(dull, rewards=(0.5,) * 3)]
