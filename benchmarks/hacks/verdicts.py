"""From the means of single seeds to verdicts: does a design pay a cheat?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.hacks.adversary import Adversary
from benchmarks.interval import Interval, over_seeds
from mmzero_env.protocol import ROLES, Role

Verdict = Literal["pays", "even", "costs"]

MARKS: Mapping[Verdict, str] = {"pays": "▲", "even": "·", "costs": "▽"}

_DIGITS = 9
"""Decimals of a difference: sums of equal numbers in another order differ in the last bits, and
an interval of no width would make a verdict of that."""


def verdict(difference: Interval) -> Verdict:
    """What an interval of the difference between cheat and honest player says.

    Args:
        difference: Over at least two seeds.

    Returns:
        ``"pays"`` only if the whole interval is above 0, ``"costs"`` if it is below.

    Raises:
        ValueError: For a single seed, which has no interval.
    """
    if difference.n < 2:
        raise ValueError("one seed gives no interval and so no verdict")
    if difference.low > 0:
        return "pays"
    return "costs" if difference.high < 0 else "even"


@dataclass(frozen=True)
class Finding:
    """One adversary under one design.

    Attributes:
        cheat: Its reward.
        honest: What an honest player earns in its places, beside the cheats.
        difference: ``cheat`` less ``honest``, paired by seed.
        others: How the cheats change the reward of the honest ones beside them.
        fixed: ``difference`` if the labels are those that honest Solvers voted; only for
            adversaries that play the Solver.
        reason: The term whose mean contribution differs most, and by how much.
    """

    cheat: Interval
    honest: Interval
    difference: Interval
    others: Interval
    fixed: Interval | None
    reason: tuple[str, float]

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, Any]]) -> Finding:
        """Gather one :class:`benchmarks.hacks.arms.Means` a seed, as plain data."""

        def over(values: Sequence[float]) -> Interval:
            return over_seeds([round(value, _DIGITS) for value in values])

        honest = [seed["alone"] + seed["others"] for seed in seeds]
        names = dict.fromkeys(name for seed in seeds for name in seed["terms"])
        names |= dict.fromkeys(name for seed in seeds for name in seed["alone_terms"])
        apart = {
            name: sum(
                seed["terms"].get(name, 0.0) - seed["alone_terms"].get(name, 0.0) for seed in seeds
            )
            / len(seeds)
            for name in names
        }
        reason = max(apart, key=lambda name: abs(apart[name]))
        fixed = [seed["fixed"] for seed in seeds]
        return cls(
            over([seed["cheat"] for seed in seeds]),
            over(honest),
            over([seed["cheat"] - other for seed, other in zip(seeds, honest, strict=True)]),
            over([seed["others"] for seed in seeds]),
            None if None in fixed else over(fixed),
            (reason, apart[reason]),
        )

    @property
    def verdict(self) -> Verdict:
        """See :func:`verdict`."""
        return verdict(self.difference)

    def as_json(self) -> dict[str, Any]:
        """Plain data for the result."""
        return {
            "verdict": self.verdict,
            "cheat": self.cheat.as_json(),
            "honest": self.honest.as_json(),
            "difference": self.difference.as_json(),
            "others": self.others.as_json(),
            "fixed_labels": None
            if self.fixed is None
            else {"verdict": verdict(self.fixed), "difference": self.fixed.as_json()},
            "largest_term": {"name": self.reason[0], "difference": self.reason[1]},
        }


@dataclass(frozen=True)
class Cost:
    """What the right plays of one role earn under one design.

    Attributes:
        reward: Mean reward.
        terms: Mean contribution of each term.
        charged: Share of the plays that a term takes something from, terms that do so at all.
        rejected: Share of the right pictures that give no label; Coder only.
    """

    reward: Interval
    terms: Mapping[str, float]
    charged: Mapping[str, float]
    rejected: float | None

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, Any]]) -> Cost:
        """Gather one :class:`benchmarks.hacks.costs.RoleCost` a seed, weighed by its plays."""
        plays = sum(seed["n"] for seed in seeds)

        def mean(part: str, name: str) -> float:
            return sum(seed["n"] * seed[part].get(name, 0.0) for seed in seeds) / plays

        names = dict.fromkeys(name for seed in seeds for name in seed["terms"])
        charged = {name: mean("charged", name) for name in names}
        rejected = None
        if all(seed["rejected"] is not None for seed in seeds):
            rejected = sum(seed["n"] * seed["rejected"] for seed in seeds) / plays
        return cls(
            over_seeds([seed["reward"] for seed in seeds]),
            {name: mean("terms", name) for name in names},
            {name: share for name, share in charged.items() if share},
            rejected,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data for the result."""
        return {
            "reward": self.reward.as_json(),
            "terms": dict(self.terms),
            "charged": dict(self.charged),
            "rejected": self.rejected,
        }


@dataclass(frozen=True)
class Results:
    """Everything that was found.

    Attributes:
        adversaries: In the order of tables.
        designs: Names, in the order of tables.
        findings: By adversary and design.
        costs: By design and role.
    """

    adversaries: Sequence[Adversary]
    designs: Sequence[str]
    findings: Mapping[str, Mapping[str, Finding]]
    costs: Mapping[str, Mapping[Role, Cost]]

    def paid(self, design: str, *, fixed: bool = False) -> list[Adversary]:
        """The adversaries that a design pays.

        Args:
            design: Its name.
            fixed: Look at Solvers only, with labels that honest Solvers voted.
        """
        found: list[Adversary] = []
        for each in self.adversaries:
            finding = self.findings[each.name][design]
            if fixed:
                found += [each] if finding.fixed and verdict(finding.fixed) == "pays" else []
            else:
                found += [each] if finding.verdict == "pays" else []
        return found

    def summary(self, design: str) -> str:
        """One line: how many adversaries a design pays, which, and what honest players lose."""
        paid = self.paid(design)
        by_role = [
            f"{role} {', '.join(names)}"
            for role in ROLES
            if (names := [each.name for each in paid if each.role == role])
        ]
        line = f"{design}: pays {len(paid)} of {len(self.adversaries)}"
        line += f" ({'; '.join(by_role)})" if by_role else ""
        if solvers := [each for each in paid if each.role == "solver"]:
            line += f"; with fixed labels {len(self.paid(design, fixed=True))} Solver's"
            line += f" instead of {len(solvers)}"
        rejected = self.costs[design]["coder"].rejected if "coder" in self.costs[design] else None
        if rejected:
            line += f"; {rejected:.0%} of the right honest pictures give no label"
        return line

    def as_json(self) -> dict[str, Any]:
        """Plain data for the result."""
        return {
            "adversaries": {
                each.name: {
                    "role": each.role,
                    "what": each.title,
                    "hole": each.hole,
                    "designs": {
                        name: finding.as_json()
                        for name, finding in self.findings[each.name].items()
                    },
                }
                for each in self.adversaries
            },
            "summary": {
                name: {
                    "paid": [each.name for each in self.paid(name)],
                    "paid_with_fixed_labels": [each.name for each in self.paid(name, fixed=True)],
                    "of": len(self.adversaries),
                    "honest": {role: cost.as_json() for role, cost in self.costs[name].items()},
                }
                for name in self.designs
            },
        }
