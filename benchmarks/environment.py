"""How fast the environment is without any model, and what 100,000 odd actions do to it.

python -m benchmarks.environment [--episodes 300] [--long 10000] [--fuzz 100000] [--out FILE.json]

All figures are CPU time of this one process, so a busy machine changes them little. The
players are scripted (right four times out of five), and their time counts.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmzero_env import self_play_v0
from mmzero_env.parsing import extract_svg, parse_proposal
from mmzero_env.protocol import CodeOutcome, EpisodeOutcome, Proposal, Request
from mmzero_env.rewards import get_design
from mmzero_env.world import players

SPAN = 100
"""Episodes over which the cost at a mark is averaged."""


class Script:
    """One noisy player for every role, asked once a request."""

    def __init__(self) -> None:
        self._player = players.noisy(0.8)
        self._request_id = ""
        self._texts: list[str] = []

    def __call__(self, request: Request) -> str:
        """The next sample of a request."""
        if request.id != self._request_id:
            (response,) = self._player.generate([request])
            self._request_id = request.id
            self._texts = [each.text for each in reversed(response.completions)]
        return self._texts.pop()


def play(env: Any, script: Script) -> int:
    """Play one episode through PettingZoo's interface; returns its turns."""
    env.reset()
    turns = 0
    for _ in env.agent_iter():
        _, _, terminated, _, _ = env.last()
        if terminated:
            env.step(None)
        else:
            env.step(script(env.unwrapped.request))
            turns += 1
    return turns


def turns_a_second(episodes: int, **arguments: Any) -> float:
    """Turns a CPU second over whole episodes, observations and infos included."""
    env, script = self_play_v0.env(**arguments), Script()
    env.reset(seed=0)
    for _ in range(5):
        play(env, script)
    started = time.process_time()
    turns = sum(play(env, script) for _ in range(episodes))
    spent = time.process_time() - started
    env.close()
    return turns / spent


def scored_a_second(episodes: int) -> float:
    """Finished episodes that are parsed, voted on and scored in a CPU second.

    4 codes, 5 answers to each question, all different texts; without the term that
    compares proposals with each other.
    """
    env: Any = self_play_v0.raw_env(render_backend=None, reward_design="no_diversity")
    script = Script()
    env.reset(seed=1)
    outcomes: list[EpisodeOutcome] = []
    while len(outcomes) < episodes:
        while env.request is not None:
            env.step(script(env.request))
        if all(code.drawing.ok for code in env.outcome.codes) and env.outcome.codes:
            outcomes.append(env.outcome)
        env.reset()
    design = get_design("no_diversity")
    started = time.process_time()
    for outcome in outcomes:
        proposal = parse_proposal(outcome.proposal_text)
        assert isinstance(proposal, Proposal)
        codes = tuple(
            CodeOutcome(code.text, extract_svg(code.text), code.drawing, code.answers)
            for code in outcome.codes
        )
        design.score([EpisodeOutcome(outcome.id, outcome.topic, "", proposal, codes)])
    return episodes / (time.process_time() - started)


def costs(marks: Iterable[int], **arguments: Any) -> dict[int, tuple[float, float]]:
    """Milliseconds an episode before each mark, and the peak memory there in MiB."""
    env, script = self_play_v0.env(**arguments), Script()
    env.reset(seed=2)
    found: dict[int, tuple[float, float]] = {}
    done = 0
    for mark in sorted(marks):
        span = min(SPAN, mark - done)
        while done < mark - span:
            play(env, script)
            done += 1
        started = time.process_time()
        for _ in range(span):
            play(env, script)
        spent = time.process_time() - started
        done = mark
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found[mark] = (spent / span * 1000, peak)
    env.close()
    return found


@dataclass
class FuzzReport:
    """What odd actions led to.

    Attributes:
        actions: Actions taken.
        episodes: Episodes that ended.
        turns: Actions by role.
        ends: Proposals that failed and codes that were drawn or failed, by reason.
        slowest: CPU seconds of the slowest step.
    """

    actions: int = 0
    episodes: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


PROPOSAL = (
    "<content_type>table</content_type><caption>A table with a cell 3.</caption>"
    "<easy_question>Which number?</easy_question><easy_answer>3</easy_answer>"
    "<hard_question>Twice it?</hard_question><hard_answer>6</hard_answer>"
)
PIECES = (
    "<caption>", "</caption>", "<easy_question>", "</easy_question>", "<think>", "</think>",
    "\\boxed{", "\\boxed{6}", "}", "{", "```svg", "```", "<svg", ' viewBox="0 0 9 9">', "</svg>",
    "<rect/>", "<text>6</text>", "&#0;", "&x;", "<!DOCTYPE", "<![CDATA[", "\ud800", "\x00", "π",
    "1e999", "-", "/0", "\\frac{1}{0}", "nan", "inf", "%", "9" * 400, "(" * 300, " ", "\n",
    "<svg viewBox='0 0 9 9'><rect width='5' height='5'/></svg>", "<svg viewBox='0 0 9 9'><rect",
)  # fmt: skip


def odd_text(rng: random.Random, role: str) -> str:
    """Pieces that parsers look for, in any order; sometimes part of a sound play."""
    text = "".join(rng.choices(PIECES, k=rng.randint(0, 12)))
    if role == "proposer" and rng.random() < 0.6:
        return rng.choice((PROPOSAL + text, PROPOSAL.replace("cell", text)))
    if role == "coder" and rng.random() < 0.5:
        return f"```svg\n<svg viewBox='0 0 9 9'>{text}</svg>\n```"
    return text


def fuzz(actions: int, seed: int = 0, **arguments: Any) -> FuzzReport:
    """Take odd actions and check what the environment says about each episode.

    Args:
        actions: How many.
        seed: Of the texts.
        **arguments: Of the environment.

    Returns:
        What happened; it returns at all only if no step raised, every reward and term
        was finite, and every failure had a reason.
    """
    small: dict[str, Any] = {
        "codes": 2,
        "answers": 2,
        "image_size": 16,
        "render_workers": 0,
        "window": 4,
    }
    env: Any = self_play_v0.raw_env(**{**small, **arguments})
    env.reset(seed=seed)
    rng, report = random.Random(seed), FuzzReport()
    for _ in range(actions):
        role = env.request.role
        text = odd_text(rng, role)
        started = time.process_time()
        env.step(text)
        report.slowest = max(report.slowest, time.process_time() - started)
        report.actions += 1
        report.turns[role] += 1
        if env.request is None:
            report.episodes += 1
            _check_end(env, report)
            env.reset()
    env.close()
    return report


def _check_end(env: Any, report: FuzzReport) -> None:
    proposer, coder = env.infos["proposer_0"], env.infos["coder_0"]
    if (proposer["proposal"] is None) != (proposer["failure"] is not None):
        raise AssertionError(f"a proposal without a reason or both: {proposer}")
    if proposer["failure"] is not None:
        report.ends[proposer["failure"]["reason"]] += 1
    for code in coder["codes"]:
        if code["rendered"] != (code["failure"] is None):
            raise AssertionError(f"a code that failed without a reason or both: {code}")
        report.ends["drawn" if code["rendered"] else code["failure"]["reason"]] += 1
    values = list(env.rewards.values())
    for agent in env.possible_agents:
        for turn in env.infos[agent]["turns"]:
            values += [turn["reward"], *turn["terms"].values()]
    if not all(map(math.isfinite, values)):
        raise AssertionError(f"a reward that is not finite: {env.infos}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=300, help="episodes behind each rate")
    parser.add_argument("--long", type=int, default=10_000, help="length of the long run, 0: none")
    parser.add_argument("--fuzz", type=int, default=100_000, help="odd actions; 0: none")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    args = parser.parse_args()
    rows: list[tuple[str, str]] = []
    for name, arguments in (
        ("turns a second, nothing drawn", {"render_backend": None}),
        ("the same without diversity", {"render_backend": None, "reward_design": "no_diversity"}),
        ("turns a second, drawn at 448 px", {"render_workers": 0}),
    ):
        rows.append((name, f"{turns_a_second(args.episodes, **arguments):,.0f}"))
    rate = scored_a_second(args.episodes)
    rows.append(("episodes parsed, voted on and scored a second", f"{rate:,.0f}"))
    if args.long:
        marks = sorted({mark for mark in (100, 1000, 10_000, args.long) if mark <= args.long})
        for mark, (cost, peak) in costs(marks, render_backend=None).items():
            rows.append(
                (f"an episode before number {mark:,}", f"{cost:.2f} ms, peak {peak:.0f} MiB")
            )
    figures: dict[str, Any] = dict(rows)
    if args.fuzz:
        report = fuzz(args.fuzz)
        rows.append(
            (f"{report.actions:,} odd actions", f"{report.episodes:,} episodes, no exception")
        )
        rows.append(("slowest step among them", f"{report.slowest * 1000:.0f} ms"))
        figures["fuzz"] = {
            "actions": report.actions,
            "episodes": report.episodes,
            "turns": dict(report.turns),
            "ends": dict(report.ends),
            "slowest": report.slowest,
        }
    table = Table(title="environment, one core, CPU time")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
