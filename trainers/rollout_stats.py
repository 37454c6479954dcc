"""How well a collection kept its engines busy, and what it cost beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmzero_env.protocol import Role

Metrics = dict[str, float | None]
"""What is worth a column in ``metrics.jsonl``, by name; None where it is not defined."""


@dataclass(frozen=True)
class Occupancy:
    """How many requests were open at a time.

    Attributes:
        span: Seconds from the first request that opened to the last that closed.
        busy: Seconds of them in which at least one request was open.
        mean: Open requests, averaged over the span.
        most: Largest number of open requests.
    """

    span: float = 0.0
    busy: float = 0.0
    mean: float = 0.0
    most: int = 0

    @classmethod
    def of(cls, opened: Sequence[float], closed: Sequence[float]) -> Occupancy:
        """The occupancy by requests that opened and closed at these times.

        Args:
            opened: When each request opened, in seconds on any clock.
            closed: When each request closed, in any order.
        """
        if not opened:
            return cls()
        times = np.concatenate([opened, closed])
        change = np.concatenate([np.ones(len(opened), int), np.full(len(closed), -1)])
        order = np.lexsort((change, times))  # at one time, closing comes first
        times, levels = times[order], np.cumsum(change[order])
        lengths = np.diff(times)
        span = float(times[-1] - times[0])
        return cls(
            span,
            float(lengths[levels[:-1] > 0].sum()),
            float(lengths @ levels[:-1]) / span if span > 0 else 0.0,
            int(levels.max()),
        )


@dataclass(frozen=True)
class PolicyStats:
    """What one policy was asked.

    Attributes:
        name: The policy's name.
        roles: Roles that it was asked as.
        requests: Requests that it answered.
        completions: Completions that it gave.
        tokens: Tokens of these completions; None if the policy tells no tokens.
        occupancy: Its open requests over time.
        times: When each request opened, and when each closed, in seconds on one clock.
    """

    name: str
    roles: tuple[Role, ...]
    requests: int
    completions: int
    tokens: int | None
    occupancy: Occupancy
    times: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @classmethod
    def merged(cls, parts: Sequence[PolicyStats]) -> PolicyStats:
        """The figures of one policy that was asked from several places, on one clock."""
        opened, closed = (tuple(t for part in parts for t in part.times[i]) for i in (0, 1))
        tokens = [part.tokens for part in parts]
        return cls(
            parts[0].name,
            tuple(dict.fromkeys(role for part in parts for role in part.roles)),
            sum(part.requests for part in parts),
            sum(part.completions for part in parts),
            None if None in tokens else sum(count or 0 for count in tokens),
            Occupancy.of(opened, closed),
            (opened, closed),
        )

    @property
    def busy_share(self) -> float:
        """Share of the span in which at least one request was open."""
        return self.occupancy.busy / self.occupancy.span if self.occupancy.span > 0 else 1.0


@dataclass(frozen=True)
class RolloutStats:
    """Where the time of one collection went.

    Attributes:
        seconds: From the call to its return.
        policies: One entry a policy, in the order in which they were first asked.
        drawings: Codes that were drawn or refused.
        seconds_drawing: Time in which the renderer was at work.
        seconds_overhead: CPU time of the calling thread, without what policies spend in
            ``generate``: parsing, bookkeeping, sending requests off.
    """

    seconds: float
    policies: tuple[PolicyStats, ...]
    drawings: int
    seconds_drawing: float
    seconds_overhead: float

    @classmethod
    def merged(
        cls, parts: Sequence[RolloutStats], *, seconds: float, overhead: float
    ) -> RolloutStats:
        """The figures of a collection that was played in parts, whose times share a clock.

        ``seconds_drawing`` and ``seconds_overhead`` are sums over all parts, which may have
        been played at the same time.

        Args:
            parts: The figures of every part.
            seconds: How long the whole took.
            overhead: CPU time of whoever brought the parts together.
        """
        policies: dict[str, list[PolicyStats]] = {}
        for part in parts:
            for policy in part.policies:
                policies.setdefault(policy.name, []).append(policy)
        return cls(
            seconds,
            tuple(PolicyStats.merged(each) for each in policies.values()),
            sum(part.drawings for part in parts),
            sum(part.seconds_drawing for part in parts),
            overhead + sum(part.seconds_overhead for part in parts),
        )

    def shifted(self, seconds: float) -> RolloutStats:
        """The same figures, with times on a clock that shows so many seconds more."""
        moved = [
            replace(
                policy,
                times=(
                    tuple(time + seconds for time in policy.times[0]),
                    tuple(time + seconds for time in policy.times[1]),
                ),
            )
            for policy in self.policies
        ]
        return replace(self, policies=tuple(moved))

    @property
    def requests(self) -> int:
        """Requests that were answered by all policies together."""
        return sum(policy.requests for policy in self.policies)

    def metrics(self) -> dict[str, float]:
        """The figures as metrics of a step; every name starts with ``seconds_``.

        ``seconds_engine/ROLES`` is the span and ``seconds_engine_busy/ROLES`` the busy part
        of it, for each policy by the roles that it plays.
        """
        found = {
            "seconds_drawing": self.seconds_drawing,
            "seconds_overhead": self.seconds_overhead,
        }
        for policy in self.policies:
            roles = "+".join(policy.roles)
            found[f"seconds_engine/{roles}"] = policy.occupancy.span
            found[f"seconds_engine_busy/{roles}"] = policy.occupancy.busy
        return found
