"""How fast the environment is without any model, and what 100,000 odd actions do to it.

    python -m benchmarks.environment [--episodes 300] [--rounds 5] [--long 10000] [--fuzz 100000]

All figures are CPU time of this one process, so a busy machine changes them little. The
players are scripted (right four times out of five), and their time counts. Rates are taken in
turn, round by round, so that ratios are of the same minutes.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.peak_memory import peak_mib
from mmzero_env import self_play_v0
from mmzero_env.parsing import extract_svg, parse_proposal
from mmzero_env.protocol import CodeOutcome, EpisodeOutcome, Proposal, Request
from mmzero_env.rewards import get_design
from mmzero_env.world import players

SPAN = 100
"""Episodes over which the cost at a mark is averaged."""
PLAIN, APART, DRAWN, SCORED = (
    "turns a second, nothing drawn",
    "the same without diversity",
    "turns a second, drawn at 448 px",
    "episodes parsed, voted on and scored a second",
)


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
        found[mark] = (spent / span * 1000, peak_mib())
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


def rates(episodes: int, rounds: int) -> dict[str, list[float]]:
    """What is done in a CPU second by kind, one number a round."""
    ways = {
        PLAIN: lambda: turns_a_second(episodes, render_backend=None),
        APART: lambda: turns_a_second(episodes, render_backend=None, reward_design="no_diversity"),
        DRAWN: lambda: turns_a_second(episodes, render_workers=0),
        SCORED: lambda: scored_a_second(episodes),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, rate in ways.items():
            found[name].append(rate())
    return found


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    parser.add_argument("--episodes", type=int, default=300, help="episodes behind each rate")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of the rates")
    parser.add_argument("--long", type=int, default=10_000, help="length of the long run, 0: none")
    parser.add_argument("--fuzz", type=int, default=100_000, help="odd actions; 0: none")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Rates, a long run, odd actions."""
    found = rates(args.episodes, args.rounds)
    marks = [mark for mark in (100, 1000, 10_000) if mark < args.long]
    spent = costs([*marks, args.long], render_backend=None) if args.long else {}
    report = fuzz(args.fuzz) if args.fuzz else None
    return Findings(
        {
            "a_second": found,
            "long_run": {
                str(mark): {"cpu_ms": cost, "peak_mib": peak}
                for mark, (cost, peak) in spent.items()
            },
            "odd_actions": report
            # asdict() makes no plain dictionaries of counters.
            and {**vars(report), "turns": dict(report.turns), "ends": dict(report.ends)},
        },
        tuple(_tables(found, spent, report)),
        tuple(_ratios(found, spent)),
        seeds=(0, 1, 2),
        packages=("cairosvg", "pillow"),
    )


def _tables(
    found: Mapping[str, Sequence[float]],
    spent: Mapping[int, tuple[float, float]],
    report: FuzzReport | None,
) -> Iterable[Table]:
    rows = tuple((name, Spread.of(values).text(0)) for name, values in found.items())
    yield Table("environment, one core, CPU time", ("what", "median (smallest to largest)"), rows)
    if spent:
        yield Table(
            "a long run, nothing drawn",
            ("episode before number", "CPU ms", "peak memory, MiB"),
            tuple((f"{mark:,}", f"{c:.2f}", f"{m:.0f}") for mark, (c, m) in spent.items()),
        )
    if report is not None:
        yield Table(
            "odd actions",
            ("actions", "episodes", "exceptions", "slowest step, CPU ms"),
            ((f"{report.actions:,}", f"{report.episodes:,}", "0", f"{report.slowest * 1e3:.0f}"),),
            "Rewards and terms were finite, and every failure had a reason.",
        )


def _ratios(
    found: Mapping[str, Sequence[float]], spent: Mapping[int, tuple[float, float]]
) -> Iterable[Ratio]:
    for name, slow in (("diversity", PLAIN), ("drawing", DRAWN)):
        fast = APART if slow == PLAIN else PLAIN
        yield Ratio.of(f"turns a second without {name} / with it", found[fast], found[slow])
    if len(spent) > 1:
        first, *_, last = spent
        what = f"cost of an episode before number {last:,} / before {first:,}"
        yield Ratio.of(what, [spent[last][0]], [spent[first][0]])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    return script.run("environment", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
