"""The sync canary: does the engine sample from the weights that were just trained?

An engine that misses a weight update goes on answering. The run looks healthy, learns
nothing, and nobody sees it for weeks. So after every update a fixed completion of a fixed
prompt is scored twice, by the trained model here and by the engine, and the two must agree
up to the rounding that they showed at the start, when the weights were surely equal. Then the
engine samples a few tokens of its own, and the log-probabilities that it reports must be the
trained model's as well: scoring goes past the prefix cache of vLLM, which can be stale too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Request, Response, Role, Sampling

# A prompt and a completion in the manner of every role, so that an update of any role moves
# some of these tokens.
PROMPT = "Describe a picture with a title, ask a question about it and answer it."
COMPLETION = (
    "<caption>A bar chart: red 5, blue 3, green 7.</caption> <svg viewBox='0 0 96 96'>"
    "<rect x='4' y='9' width='20' height='50' fill='red'/></svg> <think>The red bar is 5 and "
    "the blue bar is 3. 5 - 3 = 2.</think>\\boxed{2}"
)

FLOORS = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}
"""Smallest bound on the mean drift, in nats a token, by the precision of the engine. Rounding
measured between transformers and vLLM on the nano model in float32 is below 1e-5; the half
precisions carry 8 and 11 bits of mantissa."""

SLACK = 4.0
"""The bound is this many times the drift before the first update, or the floor if that is
more."""


SAMPLED = 24
"""Tokens that the engine samples for the second comparison."""


class Scorer(Protocol):
    """What can tell the log-probabilities of given tokens."""

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Prompt ids, and the log-probability of every completion token."""
        ...


class Sampler(Scorer, Protocol):
    """A scorer that samples, too."""

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request."""
        ...


@dataclass(frozen=True)
class CanaryReading:
    """One comparison of trainer and engine.

    Attributes:
        drift: Mean absolute difference of the log-probabilities, in nats a token: the
            larger one of those of the fixed completion and of the engine's own.
        moved: The same between the trained model now and at the first reading: how far
            training has come on these tokens.
        bound: Largest drift allowed.
    """

    drift: float
    moved: float
    bound: float


class SyncCanary:
    """Compares one role's trained weights with what an engine serves for it.

    The first reading is taken before any update and sets the bound.

    Args:
        role: Whose weights.
        trained: The model that is trained.
        engine: What samples for it.
        completion_ids: :data:`COMPLETION` in the model's own tokens.
        dtype: Precision of the engine, a key of :data:`FLOORS`.
        bound: Largest mean drift in nats a token; None derives it from the first reading.
    """

    def __init__(
        self,
        role: Role,
        trained: Scorer,
        engine: Sampler,
        completion_ids: Sequence[int],
        *,
        dtype: str = "float32",
        bound: float | None = None,
    ) -> None:
        """See the class."""
        sampling = Sampling(temperature=1.0, max_tokens=SAMPLED)
        self._request = Request(f"canary/{role}", role, PROMPT, sampling=sampling, seed=1)
        self._trained = trained
        self._engine = engine
        self._ids = tuple(completion_ids)
        self._floor = FLOORS.get(dtype, max(FLOORS.values()))
        self._bound = bound
        self._first: np.ndarray | None = None

    def check(self, version: str) -> CanaryReading:
        """Compare now.

        Args:
            version: Name of the weights that the engine should have, for the message.

        Raises:
            EngineError: If trainer and engine read the prompt differently, or differ by more
                than the bound.
        """
        ours, expected = self._trained.score(self._request, self._ids)
        theirs, served = self._engine.score(self._request, self._ids)
        if ours != theirs:
            raise EngineError(
                f"sync canary of the {self._request.role}: the engine reads the prompt as "
                f"{len(theirs)} tokens, the trainer as {len(ours)}, or in other ids; both must "
                "share tokenizer and chat template"
            )
        trained, engine = np.array(expected), np.array(served)
        if trained.shape != engine.shape or not np.isfinite(engine).all():
            raise EngineError(
                f"sync canary of the {self._request.role}: expected {len(trained)} finite "
                f"log-probabilities from the engine, got {engine!r:.200}"
            )
        drift = max(float(np.abs(trained - engine).mean()), self._sampled_drift())
        if self._first is None:
            self._first = trained
            if self._bound is None:
                # More than the floor is a fault from the start, not rounding to get used to.
                rounding = drift if drift <= self._floor else 0.0
                self._bound = max(self._floor, SLACK * rounding)
        moved = float(np.abs(trained - self._first).mean())
        assert self._bound is not None  # set by the first reading
        if drift > self._bound:
            raise EngineError(
                f"sync canary: the engine does not sample from the weights {version} of the "
                f"{self._request.role}: its log-probabilities are off by {drift:.3g} nats a "
                f"token, at most {self._bound:.3g} is rounding (training has moved them by "
                f"{moved:.3g} so far). The update did not reach the engine, or its precision is "
                "not the trainer's. Restart the engine and resume; nothing was trained on "
                "samples of the wrong weights."
            )
        return CanaryReading(drift, moved, self._bound)

    def _sampled_drift(self) -> float:
        """How far the engine is off on tokens that it samples itself."""
        [response] = self._engine.generate([self._request])
        [completion] = response.completions
        _, expected = self._trained.score(self._request, completion.token_ids)
        return float(np.abs(np.array(expected) - np.array(completion.logprobs)).mean())
