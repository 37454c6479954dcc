from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np

from mmzero_env import world
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import (
    CodeOutcome,
    CodeRewards,
    Drawing,
    EpisodeOutcome,
    EpisodeRewards,
    Failure,
    Image,
    Proposal,
    TurnReward,
    Vote,
)
from mmzero_env.record import EpisodeRecord, episode_to_record, write_records

SCRIPT = "<script>document.title='taken over'</script>"
HANDLER = '"><img src=x onerror="document.title=\'taken over\'">'

PROBE = {
    "iterations": [0, 1, 2],
    "metrics": {
        "solver_easy_sampled": [
            {"mean": 0.641, "low": 0.617, "high": 0.664, "n": 400},
            {"mean": 0.702, "low": 0.679, "high": 0.724, "n": 400},
            {"mean": 0.748, "low": 0.726, "high": 0.769, "n": 400},
        ],
        "proposer_valid": [
            {"mean": 0.954, "low": 0.924, "high": 0.973, "n": 300},
            {"mean": 0.957, "low": 0.927, "high": 0.975, "n": 300},
            {"mean": 0.950, "low": 0.919, "high": 0.970, "n": 300},
        ],
        "coder_render_rate": [
            {"mean": 0.912, "low": 0.875, "high": 0.939, "n": 300},
            {"mean": 0.970, "low": 0.944, "high": 0.984, "n": 300},
            {"mean": 0.803, "low": 0.755, "high": 0.844, "n": 300},
        ],
    },
}


def picture(rng: np.random.Generator, size: int = 96) -> Image:
    """Bars of random heights on white."""
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    for k in range(5):
        height = int(rng.integers(size // 8, size - 10))
        left = 6 + k * (size // 5)
        image[size - height :, left : left + size // 8] = rng.integers(0, 200, 3)
    return image


def episode(number: int, rng: np.random.Generator, topic: str, caption: str) -> EpisodeRecord:
    """One recorded episode: two codes that render, one that does not."""
    proposal = Proposal("data_chart", caption, "How tall is the red bar?", "7", "Sum?", "19")
    easy = ("<think>red is 7</think>\\boxed{7}", "\\boxed{7}", "\\boxed{5}")
    hard = ("\\boxed{19}", f"{SCRIPT}\\boxed{{18}}", "no box")
    codes, rewards = [], []
    for _ in range(2):
        code = f"<svg viewBox='0 0 96 96'>{HANDLER}<rect x='1'/></svg>"
        drawing = Drawing(picture(rng), flags=("dropped_script",))
        codes.append(CodeOutcome(code, code, drawing, {"easy": easy, "hard": hard}))
        each = (
            TurnReward(0.9, {"match": 0.9}),
            TurnReward(0.9, {"match": 0.9}),
            TurnReward(0.1, {"format": 0.1}),
        )
        rewards.append(
            CodeRewards(
                TurnReward(2.0 + number / 100, {"render": 1.0, "solvability": 2 / 3}),
                {"easy": Vote("7", 2 / 3, 3, 3), "hard": Vote("19", 0.5, 2, 3)},
                {"easy": each, "hard": each},
                2 / 3,
                0.5,
            )
        )
    broken = Drawing(None, Failure("render", "malformed_xml", "unclosed tag at line 3"))
    codes.append(CodeOutcome("<svg><rect", "<svg><rect", broken))
    rewards.append(CodeRewards(TurnReward(-0.1, {"render": -0.1})))
    outcome = EpisodeOutcome(f"i/{number}", topic, "<caption>raw</caption>", proposal, tuple(codes))
    proposer = TurnReward(0.6 + number / 100, {"solvability": 0.5, "diversity": -0.12})
    return episode_to_record(outcome, EpisodeRewards(proposer, tuple(rewards)))


def failed_episode(number: int) -> EpisodeRecord:
    """One recorded episode whose proposal could not be parsed."""
    failure = Failure("proposal", "missing_tag", "no <caption>")
    outcome = EpisodeOutcome(f"f/{number}", "map", "\ud800 nonsense\x00", failure)
    return episode_to_record(outcome, EpisodeRewards(TurnReward(-1.0, {"format": -1.0}), ()))


def write_run(run: Path, topic: str = "bars", caption: str = "Five bars") -> Path:
    """Write a small finished run of two iterations and return its directory."""
    rng = np.random.default_rng(3)
    (run / "episodes").mkdir(parents=True)
    config = {"preset": "nano-cpu", "seed": 7, "model": "nano", "note": SCRIPT}
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (run / "probe.json").write_text(json.dumps(PROBE), encoding="utf-8")
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for iteration in (1, 2):
            for stage in ("proposer", "coder", "solver"):
                for step in range(1, 11):
                    row = {
                        "iteration": iteration,
                        "stage": stage,
                        "step": step,
                        "reward": 0.3 + 0.05 * step + rng.normal(0, 0.05),
                        "kl": 1e-4 * step,
                        "render_rate": 1 - math.exp(-step),
                        "entropy": None,
                    }
                    file.write(json.dumps(row) + "\n")
    for iteration in (1, 2):
        for stage in ("proposer", "coder", "solver"):
            records = [episode(n, rng, topic, caption) for n in range(8)]
            records.append(failed_episode(iteration))
            path = run / "episodes" / f"iter-{iteration}-{stage}.jsonl"
            write_records(path, records)
    return run


def world_episode(
    number: int,
    rng: np.random.Generator,
    *,
    topic: str = "bars",
    right: bool = True,
    leak: bool = False,
    drawn: tuple[bool, ...] = (True, True),
) -> EpisodeRecord:
    """An episode about a picture whose truth is known.

    ``right``: whether the silver labels of the hard question are true; ``leak``: whether the
    first picture says the hard answer; ``drawn``: which codes have a picture.
    """
    dice = random.Random(number)
    spec = world.sample_spec(dice, "bars")
    proposal = parse_proposal(world.proposal_text(spec, dice))
    assert isinstance(proposal, Proposal)
    winner = proposal.hard_answer if right else f"not {proposal.hard_answer}"
    answers = {
        "easy": (f"<think>I look</think>\\boxed{{{proposal.easy_answer}}}", "\\boxed{x}"),
        "hard": (f"<think>I count {number}</think>\\boxed{{{winner}}}",) * 2,
    }
    codes, rewards = [], []
    for place, rendered in enumerate(drawn):
        svg = spec.svg()
        if leak and place == 0:
            svg = svg.replace("</svg>", f"<text>so {proposal.hard_answer}</text></svg>")
        if not rendered:
            failure = Failure("render", "malformed_xml", "no end")
            codes.append(CodeOutcome("<svg", "<svg", Drawing(None, failure)))
            rewards.append(CodeRewards(TurnReward(-0.5, {"no_render": -0.5})))
            continue
        codes.append(CodeOutcome(svg, svg, Drawing(picture(rng)), answers))
        each = (TurnReward(1.0, {"accuracy": 0.9, "format": 0.1}), TurnReward(0.1, {"format": 0.1}))
        votes = {
            "easy": Vote(proposal.easy_answer, 0.5, 2, 2),
            "hard": Vote(winner, 1.0, 2, 2),
        }
        paid = TurnReward(1.5, {"render": 1.0, "solvability": 0.5})
        rewards.append(CodeRewards(paid, votes, {"easy": each, "hard": each}, 0.5, 0.0))
    outcome = EpisodeOutcome(f"w/{number}", topic, "<caption>raw</caption>", proposal, tuple(codes))
    value = round(0.1 * (number % 10), 3)
    reward = TurnReward(value, {"solvability": value + 0.2, "diversity": -0.2})
    return episode_to_record(outcome, EpisodeRewards(reward, tuple(rewards)))


def write_world_run(run: Path, iterations: int = 2) -> Path:
    """A run whose episodes differ in what a gallery can be filtered by.

    In every iteration a Proposer's stage of ten episodes on two topics: number 1 has a false
    label, 2 a leak, 3 one picture that failed, 4 none that did not, the tenth no proposal.
    """
    rng = np.random.default_rng(5)
    (run / "episodes").mkdir(parents=True)
    (run / "config.json").write_text('{"preset": "nano-cpu", "seed": 1}', encoding="utf-8")
    for iteration in range(1, iterations + 1):
        base = 100 * iteration
        records = [
            world_episode(
                base + n,
                rng,
                topic=("bars", "maps")[n % 2],
                right=n != 1,
                leak=n == 2,
                drawn=(False, False) if n == 4 else (True, n != 3),
            )
            for n in range(9)
        ]
        records.append(failed_episode(iteration))
        write_records(run / "episodes" / f"iter-{iteration}-proposer.jsonl", records)
    return run
