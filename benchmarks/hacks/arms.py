"""Episodes with and without an adversary, and what a role earns in them by every design.

The unit is what GRPO compares: a group of eight completions to one prompt.

* Proposer: eight proposals on each topic, all topics scored as one population.
* Coder: eight codes of one proposal, four of them played (codes of a proposal do not
  influence each other's reward, so four honest and four cheating codes need not be played
  in one episode).
* Solver: eight answers to the hard question about one picture, which is what a Solver is
  trained on. They vote together, so the label depends on the cheats among them.

Four of the eight are the adversary's. Every group is also played with eight honest players
and the same seeds: what is drawn at random is the same wherever the cheat does not change it.
So the noise of what was asked cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agents.policy import Policy
from benchmarks.hacks import honest
from benchmarks.hacks.adversary import Adversary, Cheating, Places, everywhere, half
from benchmarks.hacks.scenes import Gallery
from mmzero_env.episode import Episode, EpisodeConfig, default_sampling
from mmzero_env.errors import UserError
from mmzero_env.protocol import (
    TOPICS,
    EpisodeOutcome,
    EpisodeRewards,
    Proposal,
    Role,
    TurnReward,
)
from mmzero_env.rewards import RewardDesign
from trainers.rollout import collect

GROUP = 8
CHEATS = 4
"""Of each group of :data:`GROUP` so many are the adversary's."""
CODES, ANSWERS = 4, 5
"""N and K of the published run; a Solver's group has :data:`GROUP` answers instead."""

Turns = list[TurnReward]


@dataclass(frozen=True)
class Means:
    """What a role earned by one design in the groups of one seed, and which terms made it up.

    Attributes:
        cheat: Mean reward of the adversary.
        alone: Mean reward of the honest player in the same places, without any cheat.
        others: By how much the cheats changed the mean reward of the honest ones beside them.
        terms: Mean contribution of each term to ``cheat``.
        alone_terms: The same for ``alone``.
        fixed: For a Solver: ``cheat`` less what the honest ones beside it earn, if the labels
            are those that eight honest players voted, as with labels that are voted before
            the Solver's stage; None for other roles.
    """

    cheat: float
    alone: float
    others: float
    terms: Mapping[str, float]
    alone_terms: Mapping[str, float]
    fixed: float | None = None

    @property
    def honest(self) -> float:
        """What an honest player earns in the cheat's places, beside the cheats."""
        return self.alone + self.others

    @property
    def difference(self) -> float:
        """What the cheat earns more: what GRPO sees within a group, less the noise of it."""
        return self.cheat - self.honest


@dataclass(frozen=True, eq=False)
class Played:
    """The honest episodes of one seed.

    Attributes:
        proposed: By topic its group of proposals, each drawn :data:`CODES` times.
        solved: Pictures with a group of answers each.
    """

    proposed: Sequence[Sequence[EpisodeOutcome]]
    solved: Sequence[EpisodeOutcome]

    @property
    def population(self) -> list[EpisodeOutcome]:
        """All proposals, scored together."""
        return [outcome for group in self.proposed for outcome in group]

    @property
    def drawn(self) -> list[EpisodeOutcome]:
        """Well-formed proposals in the adversary's places: what other roles are tried on."""
        places = [outcome for group in self.proposed for outcome in group[-CHEATS:]]
        return [outcome for outcome in places if isinstance(outcome.proposal, Proposal)]


class Arms:
    """Plays and scores both arms.

    Args:
        solver: The honest Solver.
        gallery: Draws.
        designs: What scores the episodes; they are played once for all.
        topics: How many of the published topics are proposed on.
        prompts: Prompt set that the Solver understands.
        plain: See :func:`benchmarks.hacks.honest.proposer`.
        max_tokens: Longest answer, in tokens; the default of an episode when None.
    """

    def __init__(
        self,
        solver: Policy,
        gallery: Gallery,
        designs: Sequence[RewardDesign],
        *,
        topics: int = len(TOPICS),
        prompts: str = "mm_zero",
        plain: bool = False,
        max_tokens: int | None = None,
    ):
        self._players: dict[Role, Policy] = {
            "proposer": honest.proposer(plain=plain), "coder": honest.coder(), "solver": solver
        }  # fmt: skip
        self._gallery = gallery
        self._designs = designs
        self._topics = TOPICS[:topics]
        self._prompts = prompts
        self._sampling = default_sampling()
        if max_tokens is not None:
            longest = replace(self._sampling["solver"], max_tokens=max_tokens)
            self._sampling["solver"] = longest
        self._seed: int | None = None
        self._played: Played | None = None
        self._scored: dict[str, tuple[list[EpisodeRewards], list[EpisodeRewards]]] = {}

    def played(self, seed: int) -> Played:
        """The honest episodes of a seed; those of the last seed are kept."""
        if self._played is None or self._seed != seed:
            self._gallery.forget()
            groups = [
                self._play(
                    [self._episode(topic, place, seed) for place in range(GROUP)], self._players
                )
                for topic in range(len(self._topics))
            ]
            proposed = Played(groups, ())
            solved = self._play(self._pictures(proposed, seed), self._players)
            self._seed, self._played = seed, Played(groups, solved)
            self._scored = {
                each.name: (each.score(self._played.population), each.score(solved))
                for each in self._designs
            }
        return self._played

    def tried(self, adversary: Adversary, seed: int) -> dict[str, dict[str, Any]]:
        """What an adversary earns in the groups of a seed, by the name of the design."""
        played = self.played(seed)
        compare = {"proposer": self._proposer, "coder": self._coder, "solver": self._solver}
        found = compare[adversary.role](adversary, played, seed)
        return {name: asdict(means) for name, means in found.items()}

    def _proposer(self, adversary: Adversary, played: Played, seed: int) -> dict[str, Means]:
        players = self._with(adversary, everywhere)
        mixed: list[EpisodeOutcome] = []
        for topic, group in enumerate(played.proposed):
            places = range(GROUP - CHEATS, GROUP)
            cheats = [self._episode(topic, place, seed) for place in places]
            mixed += [*group[:-CHEATS], *self._play(cheats, players)]
        cheating = [i % GROUP >= GROUP - CHEATS for i in range(len(mixed))]

        def turns(rewards: Sequence[EpisodeRewards], cheats: bool) -> Turns:
            return [r.proposer for r, c in zip(rewards, cheating, strict=True) if c == cheats]

        found: dict[str, Means] = {}
        for design in self._designs:
            with_cheats, (without, _) = design.score(mixed), self._scored[design.name]
            found[design.name] = _means(
                turns(with_cheats, True),
                turns(without, True),
                turns(with_cheats, False),
                turns(without, False),
            )
        return found

    def _coder(self, adversary: Adversary, played: Played, seed: int) -> dict[str, Means]:
        episodes = [self._again(outcome, seed, CODES, ANSWERS) for outcome in played.drawn]
        cheating = self._play(episodes, self._with(adversary, everywhere))

        def turns(rewards: Sequence[EpisodeRewards]) -> Turns:
            return [code.coder for each in rewards for code in each.codes]

        drawn = {outcome.id for outcome in played.drawn}
        found: dict[str, Means] = {}
        for design in self._designs:
            pairs = zip(played.population, self._scored[design.name][0], strict=True)
            alone = [rewards for outcome, rewards in pairs if outcome.id in drawn]
            found[design.name] = _means(turns(design.score(cheating)), turns(alone))
        return found

    def _solver(self, adversary: Adversary, played: Played, seed: int) -> dict[str, Means]:
        mixed = self._play(self._pictures(played, seed), self._with(adversary, half))
        return {
            design.name: _answers(design, mixed, design.score(mixed), self._scored[design.name][1])
            for design in self._designs
        }

    def _with(self, adversary: Adversary, places: Places) -> Mapping[Role, Policy]:
        cheating = Cheating(self._players[adversary.role], adversary, places)
        return {**self._players, adversary.role: cheating}

    def _pictures(self, played: Played, seed: int) -> list[Episode]:
        return [self._again(outcome, seed, 1, GROUP) for outcome in played.drawn]

    def _again(self, outcome: EpisodeOutcome, seed: int, codes: int, answers: int) -> Episode:
        """An episode on the same proposal whose requests have the same ids and seeds."""
        assert isinstance(outcome.proposal, Proposal)
        config = self._config(codes, answers)
        return Episode(outcome.id, outcome.topic, seed, config, outcome.proposal)

    def _episode(self, topic: int, place: int, seed: int) -> Episode:
        name = f"{seed}/{topic}/{place}"
        return Episode(name, self._topics[topic], seed, self._config(CODES, ANSWERS))

    def _config(self, codes: int, answers: int) -> EpisodeConfig:
        designs = self._designs
        return EpisodeConfig(
            codes=codes,
            answers=answers,
            prompts=self._prompts,
            caption_answers=max(each.caption_answers(answers) for each in designs),
            blind_answers=max(each.blind_answers(answers) for each in designs),
            sampling=self._sampling,
        )

    def _play(
        self, episodes: Sequence[Episode], players: Mapping[Role, Policy]
    ) -> list[EpisodeOutcome]:
        rollouts = collect(episodes, players, self._gallery)
        return [rollout.outcome for rollout in rollouts]


def _answers(
    design: RewardDesign,
    mixed: Sequence[EpisodeOutcome],
    with_cheats: Sequence[EpisodeRewards],
    without: Sequence[EpisodeRewards],
) -> Means:
    """The means over the answers to the hard questions about one picture each."""
    cheat, alone, beside, apart, fixed_cheat, fixed_beside = ([] for _ in range(6))
    for outcome, mixed_rewards, honest_rewards in zip(mixed, with_cheats, without, strict=True):
        here, there = mixed_rewards.codes[0], honest_rewards.codes[0]
        label = there.labels.get("hard")
        # No Solver is trained on a picture without a label.
        if label is None:
            continue
        places = half(f"{outcome.id}/solver/0/hard", GROUP)
        code = outcome.codes[0]
        fixed = design.solver_rewards(code.answers["hard"], label.winner, code.code)
        for place in range(GROUP):
            cheats = place in places
            (cheat if cheats else beside).append(here.solver["hard"][place])
            (alone if cheats else apart).append(there.solver["hard"][place])
            (fixed_cheat if cheats else fixed_beside).append(fixed[place])
    if not alone:
        raise UserError(
            f"under the design {design.name!r} no picture of this seed has a label for its hard "
            "question, so no Solver can be compared; leave the design out, choose a --solver "
            "that answers better, or drop --quick."
        )
    return replace(
        _means(cheat, alone, beside, apart),
        # Honest answers are graded by the same labels in both arms: the noise cancels.
        fixed=_mean(fixed_cheat) - _mean(alone) - (_mean(fixed_beside) - _mean(apart)),
    )


def _means(
    cheat: Turns, alone: Turns, beside: Turns | None = None, apart: Turns | None = None
) -> Means:
    others = _mean(beside) - _mean(apart) if beside and apart else 0.0
    return Means(_mean(cheat), _mean(alone), others, mean_terms(cheat), mean_terms(alone))


def mean_terms(turns: Sequence[TurnReward]) -> dict[str, float]:
    """Mean contribution of every term; a term that a turn does not have contributes 0."""
    names = dict.fromkeys(name for turn in turns for name in turn.terms)
    return {name: _mean_of([turn.terms.get(name, 0.0) for turn in turns]) for name in names}


def _mean(turns: Sequence[TurnReward]) -> float:
    return _mean_of([turn.value for turn in turns])


def _mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values)
