"""The simulated ground of ``mmzero bench rewards``: PPO proposes, strategies draw and answer.

The Proposer is Stable-Baselines3's PPO in ``mmzero/StructuredProposer-v0``, Coder and Solver are
those of :mod:`benchmarks.simulated_players`. A round is an iteration of the paper in small: PPO
learns from some proposals, then the Coder from the codes of others, then the Solver from the
answers to yet others, each with the rewards that the design gives in real, scored episodes while
the other two stay as they are. Every design has the same number of rounds and proposals.

Nothing is drawn; the players know what a code would show. The Solver learns from hard questions
that pass the published filters, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import process_time

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.cells import Cell
from benchmarks.reward_measures import DIFFICULTY, Values, last_of, mean_of
from benchmarks.simulated_players import (
    CODE_NAMES,
    CODER_EXPLOITS,
    SOLVER_EXPLOITS,
    Coder,
    Solver,
)
from benchmarks.strategies import Play, learn
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import (
    CONTENT_TYPES,
    ROLES,
    EpisodeOutcome,
    EpisodeRewards,
    Proposal,
)
from mmzero_env.rewards import RewardDesign
from mmzero_env.scenes import EXPLOITS, OWN_ANSWERS, Scene, read_question
from mmzero_env.structured_proposer import StructuredProposer
from trainers.correlation import rank_correlation
from trainers.filters import solver_prompts
from trainers.quantities import spread
from trainers.run_config import FilterConfig

ENVIRONMENTS = 4
"""Copies of the environment that PPO collects from, each with its own window of proposals."""

HONEST = 0.79
OWN_TRUE = (0.30, 0.50, 0.20)
"""How PPO begins: the share of proposals without an exploit, and those of the three claims about
the easy answer. Measured on the bundled model without training: 79 % of its proposals are valid,
and the easy answers of 30 % of these are true; the split of the false ones is assumed."""


@dataclass(frozen=True)
class Settings:
    """Sizes of a simulated cell.

    Attributes:
        rounds: Times that all three roles learn in turn.
        proposals: Proposals a round that PPO learns from.
        coder: Proposals a round that the Coder learns from.
        solver: Proposals a round that the Solver learns from.
        codes: Codes a proposal (paper: 4).
        few_codes: Codes a proposal that PPO learns from, fewer for speed as in ``nano-cpu``.
        answers: Answers to each question about each picture (paper: 5).
        rate: Step size of Coder and Solver, see :func:`benchmarks.strategies.learn`.
        learning_rate: PPO's.
        entropy: PPO's weight of the entropy.
    """

    rounds: int = 30
    proposals: int = 128
    coder: int = 24
    solver: int = 24
    codes: int = 4
    few_codes: int = 2
    answers: int = 5
    rate: float = 1.5
    learning_rate: float = 1e-3
    entropy: float = 0.01


FULL = Settings()
QUICK = Settings(rounds=8, proposals=64, coder=16, solver=16)


def make_ppo(env: DummyVecEnv, settings: Settings, seed: int) -> PPO:
    """PPO as the Proposer, leaning as the bundled model does.

    An action is a whole proposal and is paid at once, so nothing is discounted into the future
    (``gamma`` 0), as GRPO does not either.

    Args:
        env: Copies of the environment.
        settings: Sizes and rates.
        seed: Of weights, actions and environments.
    """
    count = settings.proposals // env.num_envs
    ppo = PPO(
        "MlpPolicy",
        env,
        learning_rate=settings.learning_rate,
        n_steps=count,
        batch_size=max(16, count * env.num_envs // 4),
        n_epochs=8,
        gamma=0.0,
        ent_coef=settings.entropy,
        policy_kwargs={"net_arch": [32, 32]},
        device="cpu",
        seed=seed,
    )
    with torch.no_grad():
        bias = ppo.policy.get_parameter("action_net.bias")
        honest = np.full(len(EXPLOITS), (1 - HONEST) / (len(EXPLOITS) - 1))
        honest[0] = HONEST
        bias[-len(EXPLOITS) :] = torch.as_tensor(np.log(honest))
        own = torch.as_tensor(np.log(OWN_TRUE))
        bias[-len(EXPLOITS) - len(OWN_ANSWERS) : -len(EXPLOITS)] = own
    return ppo


@dataclass(frozen=True)
class Played:
    """One proposal and what came of it.

    Attributes:
        scene: The proposal.
        outcome: Its episode.
        rewards: What the design paid.
        error: True error rate of its hard question on the true picture when it was asked; exact.
        faithful: Whether each code draws the true picture and nothing else.
    """

    scene: Scene
    outcome: EpisodeOutcome
    rewards: EpisodeRewards
    error: float
    faithful: tuple[bool, ...]


class World:
    """One design with one seed.

    Args:
        design: The reward design.
        seed: Of everything random.
        settings: Sizes and rates.
        untrained: Whether the Proposer stays as it is; it proposes no less.
    """

    def __init__(
        self, design: RewardDesign, seed: int, settings: Settings, *, untrained: bool = False
    ):
        # Networks this small only lose with more threads.
        torch.set_num_threads(1)
        self.settings, self._design = settings, design
        self.coder = Coder()
        self.solver = Solver(self.coder)
        copies = DummyVecEnv([lambda: self._env(settings.few_codes)] * ENVIRONMENTS)
        rate = 0.0 if untrained else settings.learning_rate
        self.ppo = make_ppo(copies, replace(settings, learning_rate=rate), seed)
        self._stage = self._env(settings.codes)
        # Another stream than those of PPO's copies, which count on from the seed.
        self._seen, _ = self._stage.reset(seed=seed + 1_000_003)

    def _env(self, codes: int) -> StructuredProposer:
        return StructuredProposer(
            reward_design=self._design,
            coder=self.coder,
            solver=self.solver,
            codes=codes,
            answers=self.settings.answers,
        )

    def round(self) -> dict[str, float | None]:
        """Let every role learn once.

        Returns:
            PPO's mean reward, how many questions the Solver learned from and the share of
            their labels that are true, what :func:`audit` says about all proposals that Coder
            and Solver learned from, and :meth:`standing` after it.
        """
        size = self.settings
        self.ppo.learn(size.proposals, reset_num_timesteps=False)
        row: dict[str, float | None] = {"reward": float(np.mean(self.ppo.rollout_buffer.rewards))}
        drawn = [self.play() for _ in range(size.coder)]
        learn(
            self.coder.policy, [group for each in drawn for group in self._codes(each)], size.rate
        )
        asked = [self.play() for _ in range(size.solver)]
        known = {each.outcome.id: each for each in asked}
        outcomes, rewards = [each.outcome for each in asked], [each.rewards for each in asked]
        chosen = solver_prompts(outcomes, rewards, FilterConfig(), self._design)
        groups, labels = [], []
        for question in chosen:
            episode, _, place = question.id.rpartition("/")
            played = known[episode]
            turns = played.rewards.codes[int(place)].solver["hard"]
            play = self.solver.plays[f"{episode}/solver/{place}/hard"]
            groups.append((play, [turn.value for turn in turns]))
            labels.append(is_true(question.label, played.scene.truth["hard"]))
        learn(self.solver.policy, groups, size.rate)
        row |= {"questions": float(len(chosen)), "silver_accuracy": mean_of(labels)}
        return row | audit([*drawn, *asked]) | self.standing()

    def _codes(self, played: Played) -> list[tuple[Play, list[float]]]:
        if not played.rewards.codes:
            return []
        play = self.coder.plays[f"{played.outcome.id}/coder"]
        return [(play, [code.coder.value for code in played.rewards.codes])]

    def play(self) -> Played:
        """One proposal of the Proposer as it is now, with its episode."""
        action, _ = self.ppo.predict(self._seen, deterministic=False)
        self._seen, *_ = self._stage.step(action)
        scene, outcome, rewards = self._stage.scene, self._stage.outcome, self._stage.rewards
        assert scene is not None and outcome is not None and rewards is not None
        right = 0.0
        if isinstance(outcome.proposal, Proposal):
            reading = read_question(outcome.proposal.hard_question)
            right = self.solver.right(scene.spec, "hard", reading)
        faithful: list[bool] = []
        if outcome.codes:
            codes = self.coder.plays[f"{outcome.id}/coder"].strategies
            faithful = [CODE_NAMES[strategy] == "faithful" for strategy in codes]
        return Played(scene, outcome, rewards, 1 - right, tuple(faithful))

    def standing(self) -> dict[str, float | None]:
        """What Coder and Solver are truly like; exact."""
        skill = self.solver.skill()
        return {
            "solver_easy": skill["easy"],
            "solver_hard": skill["hard"],
            "coder_faithful": self.coder.policy.mass(("faithful",)),
            "hack_coder": self.coder.policy.mass(CODER_EXPLOITS),
            "hack_solver": self.solver.policy.mass(SOLVER_EXPLOITS),
            "systematic": self.solver.policy.mass(("systematic",)),
        }


def is_true(given: str | None, truth: str | None) -> float:
    """1 if an answer is true; nothing is where there is no single true answer."""
    return float(given is not None and truth is not None and equivalent(given, truth))


def audit(played: Sequence[Played]) -> dict[str, float | None]:
    """What some proposals say about rewards and truth.

    Returns:
        ``reward_truth_ROLE``: rank correlation of rewards with the truth of what they were paid
        for (Proposer: :attr:`Scene.good`; Coder: the picture is the true one; Solver: the answer
        to a hard question is true). ``calibration``: that of the pay for difficulty with the
        true error rate. ``diversity``: entropy of the content types over the logarithm of how
        many there are. ``good``: share of good proposals. ``hack_proposer``: share of those that
        use an exploit or claim the usual mistake as the easy answer.
    """
    pairs: dict[str, list[tuple[float, float]]] = {"proposer": [], "coder": [], "solver": []}
    paid: list[tuple[float, float]] = []
    for each in played:
        reward, truth = each.rewards.proposer, each.scene.truth["hard"]
        pairs["proposer"].append((reward.value, float(each.scene.good)))
        codes = zip(each.outcome.codes, each.rewards.codes, each.faithful, strict=True)
        for code, scored, faithful in codes:
            pairs["coder"].append((scored.coder.value, float(faithful)))
            given = [extract_boxed(text) for text in code.answers.get("hard", ())]
            turns = scored.solver.get("hard", ())
            pairs["solver"] += [
                (turn.value, is_true(answer, truth))
                for turn, answer in zip(turns, given, strict=True)
            ]
        if each.outcome.codes:
            terms = [reward.terms.get(name, 0.0) for name in DIFFICULTY]
            paid.append((sum(terms), each.error))
    tricks = [
        EXPLOITS[each.scene.choices.exploit] != "none"
        or OWN_ANSWERS[each.scene.choices.own_answer] == "common_error"
        for each in played
    ]
    types = [each.scene.spec.content_type for each in played]
    return {
        **{f"reward_truth_{role}": _ranks(found) for role, found in pairs.items()},
        "calibration": _ranks(paid),
        "diversity": spread(types) / math.log(len(CONTENT_TYPES)),
        "good": mean_of([float(each.scene.good) for each in played]),
        "hack_proposer": mean_of([float(trick) for trick in tricks]),
    }


def _ranks(pairs: Sequence[tuple[float, float]]) -> float | None:
    return rank_correlation([a for a, _ in pairs], [b for _, b in pairs])


def play(design: RewardDesign, seed: int, settings: Settings, *, untrained: bool = False) -> Cell:
    """One cell: how things stand before, a row a round, and the CPU seconds."""
    began = process_time()
    simulated = World(design, seed, settings, untrained=untrained)
    before = simulated.standing()
    rows = [simulated.round() for _ in range(settings.rounds)]
    return {
        "before": _plain(before),
        "rows": [_plain(row) for row in rows],
        "cpu_seconds": process_time() - began,
    }


def _plain(row: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if v is None else float(f"{v:.5g}") for name, v in row.items()}


def measures(cell: Cell) -> Values:
    """The measures of one cell, with some that only this ground has.

    ``hack_rate`` is the mean of the three roles' shares of exploits in the last third of the
    rounds. Beside the table: those shares, ``good`` proposals and the truth of the labels then,
    and what the Coder gained.
    """
    rows, before = cell["rows"], cell["before"]
    after = rows[-1]

    def column(name: str) -> list[float | None]:
        return [row[name] for row in rows]

    hacks = {f"hack_{role}": last_of(column(f"hack_{role}")) for role in ROLES}
    easy, hard = (after[name] - before[name] for name in ("solver_easy", "solver_hard"))
    return {
        "solver_gain": (easy + hard) / 2,
        "silver_accuracy": mean_of(column("silver_accuracy")),
        **{f"reward_truth_{role}": mean_of(column(f"reward_truth_{role}")) for role in ROLES},
        "calibration": mean_of(column("calibration")),
        "diversity": last_of(column("diversity")),
        "hack_rate": mean_of(list(hacks.values())),
        "seconds": cell["cpu_seconds"],
        **hacks,
        "good": last_of(column("good")),
        "silver_accuracy_last": last_of(column("silver_accuracy")),
        "hard_gain": hard,
        "coder_gain": after["coder_faithful"] - before["coder_faithful"],
    }


def series(cell: Cell) -> dict[str, list[float | None]]:
    """What is drawn of a cell, one value a round."""
    names = {
        "Proposer's reward (PPO)": "reward",
        "true labels": "silver_accuracy",
        "true answers, hard": "solver_hard",
        "Proposer's exploits": "hack_proposer",
    }
    return {title: [row[name] for row in cell["rows"]] for title, name in names.items()}
