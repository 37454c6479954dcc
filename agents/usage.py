"""What a policy behind an endpoint has used so far: requests, tokens, waiting, money."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Counters of one policy since it was made.

    Attributes:
        requests: Requests of ours that were answered in full.
        retries: Attempts that had to be repeated, for whatever reason.
        prompt_tokens: Tokens read, as the server counts them; repeated attempts that the
            server answered are counted, for they are charged.
        completion_tokens: Tokens written, likewise.
        failures: Requests that got no usable answer.
        seconds_waiting: Seconds between an attempt that failed and its repetition, summed
            over requests.
        cost: Of the tokens, in the currency of the prices; None without prices.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: int = 0
    seconds_waiting: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens, in any currency; None where they are not known."""

    prompt: float | None = None
    completion: float | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Of so many tokens, or None without both prices."""
        if self.prompt is None or self.completion is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass
class Tally:
    """Counts from the threads of one policy."""

    prices: Prices = Prices()
    _counts: dict[str, Any] = field(default_factory=lambda: asdict(Usage()))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **more: Any) -> None:
        """Add to counters of :class:`Usage`, by name."""
        with self._lock:
            for name, value in more.items():
                self._counts[name] += value

    def snapshot(self) -> Usage:
        """The counters as they are now."""
        with self._lock:
            counts = Usage(**self._counts)
        cost = self.prices.cost(counts.prompt_tokens, counts.completion_tokens)
        return replace(counts, cost=cost)
