"""How much a run has to do: requests, tokens, pictures and optimizer steps of each stage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mmzero_env.protocol import Role
from mmzero_env.rewards import RewardDesign
from trainers.plan_prompts import PromptTokens
from trainers.run_config import RunConfig
from trainers.stage_config import StageConfig

PROBE_TOKENS = 160
"""Longest completion of the probe, which shows small pictures with short answers."""


@dataclass(frozen=True)
class Work:
    """What is done in a stage, an iteration or a run.

    Attributes:
        requests: Prompts that are sent to a policy.
        prompt_tokens: Tokens that are read when each prompt is read once, whatever the number
            of its completions.
        completions: Completions that are sampled.
        completion_tokens: Their tokens.
        pictures: Codes that are drawn.
        rows: Rows that are trained on.
        row_tokens: Their tokens, prompts included.
        row_pictures: Pictures in them.
        optimizer_steps: Updates of the weights.
    """

    requests: float = 0
    prompt_tokens: float = 0
    completions: float = 0
    completion_tokens: float = 0
    pictures: float = 0
    rows: float = 0
    row_tokens: float = 0
    row_pictures: float = 0
    optimizer_steps: float = 0

    def __add__(self, other: Work) -> Work:
        """Both together."""
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> Work:
        """The same so many times."""
        return Work(*(getattr(self, f.name) * times for f in fields(self)))

    def rounded(self) -> dict[str, Any]:
        """Whole numbers by name."""
        return {f.name: round(getattr(self, f.name)) for f in fields(self)}


def stages(config: RunConfig, prompts: PromptTokens) -> dict[str, Work]:
    """The work of the stages of one iteration and of the probe after it.

    Groups with equal rewards, which are not trained on, are counted as if they were.
    """
    design = config.design()
    return {
        "proposer": _proposer(config.proposer, prompts, design),
        "coder": _coder(config.coder, prompts, design),
        "solver": _solver(config.solver, prompts, design, online=config.online_labels),
        "probe": _probe(config, prompts),
    }


def _ask(
    prompts: PromptTokens,
    role: Role,
    requests: float,
    samples: float = 1,
    limit: int = 0,
    prompt: int | None = None,
) -> Work:
    """Requests to a role, each with a number of samples, cut at a limit if there is one.

    The prompt is as long as the role's, unless its tokens are given.
    """
    completions = requests * samples
    length = prompts.completion(role)
    return Work(
        requests=requests,
        prompt_tokens=requests * (prompts.prompt(role) if prompt is None else prompt),
        completions=completions,
        completion_tokens=completions * (min(length, limit) if limit else length),
    )


def _train(prompts: PromptTokens, role: Role, stage: StageConfig, steps: float) -> Work:
    rows = steps * stage.prompts_per_step * stage.group_size
    return Work(
        rows=rows,
        row_tokens=rows * (prompts.prompt(role) + prompts.completion(role)),
        row_pictures=rows if role == "solver" else 0,
        optimizer_steps=steps * stage.updates_per_step * stage.num_iterations,
    )


def _draw_and_answer(prompts: PromptTokens, codes: float, answers: int) -> Work:
    """Codes are drawn, and both questions about each picture are answered."""
    drawn = codes * prompts.guesses.rendered
    return Work(pictures=codes) + _ask(prompts, "solver", 2 * drawn, answers)


def _answer_without(
    prompts: PromptTokens, design: RewardDesign, proposals: float, answers: int
) -> Work:
    """What a design has answered once a proposal: from the caption, and from nothing."""
    work = Work()
    if told := design.caption_answers(answers):
        work += _ask(prompts, "solver", 2 * proposals, told, prompt=prompts.told)
    if blind := design.blind_answers(answers):
        work += _ask(prompts, "solver", proposals, blind, prompt=prompts.blind)
    return work


def _proposer(stage: StageConfig, prompts: PromptTokens, design: RewardDesign) -> Work:
    proposals = stage.steps * stage.prompts_per_step * stage.group_size
    parsed = proposals * prompts.guesses.parsed
    return (
        _ask(prompts, "proposer", proposals)
        + _ask(prompts, "coder", parsed, stage.codes)
        + _draw_and_answer(prompts, parsed * stage.codes, stage.answers)
        + _answer_without(prompts, design, parsed, stage.answers)
        + _train(prompts, "proposer", stage, stage.steps)
    )


def _steps(stage: StageConfig, prompts: PromptTokens) -> float:
    """Steps of a stage whose prompts come from a pool."""
    if not stage.max_epochs:
        return stage.steps
    kept = stage.pool * prompts.guesses.parsed * prompts.guesses.kept
    return min(stage.steps, max(1, stage.max_epochs * kept // stage.prompts_per_step))


def _coder(stage: StageConfig, prompts: PromptTokens, design: RewardDesign) -> Work:
    if not stage.steps:
        return Work()
    steps, parsed = _steps(stage, prompts), stage.pool * prompts.guesses.parsed
    groups = steps * stage.prompts_per_step
    return (
        _ask(prompts, "proposer", stage.pool)
        + _ask(prompts, "coder", parsed, stage.codes)
        + Work(pictures=parsed * stage.codes)
        + _ask(prompts, "coder", groups, stage.group_size)
        + _draw_and_answer(prompts, groups * stage.group_size, stage.answers)
        + _answer_without(prompts, design, groups, stage.answers)
        + _train(prompts, "coder", stage, steps)
    )


def _solver(
    stage: StageConfig, prompts: PromptTokens, design: RewardDesign, *, online: bool
) -> Work:
    if not stage.steps:
        return Work()
    steps, parsed = _steps(stage, prompts), stage.pool * prompts.guesses.parsed
    rows = steps * stage.prompts_per_step
    voted = Work()
    if online and design.needs_caption_answers:
        # One question, asked anew in every step.
        voted = _ask(prompts, "solver", rows, stage.answers, prompt=prompts.told)
    return (
        _ask(prompts, "proposer", stage.pool)
        + _ask(prompts, "coder", parsed)
        + _draw_and_answer(prompts, parsed, stage.answers)
        + _answer_without(prompts, design, parsed, stage.answers)
        + _ask(prompts, "solver", rows, stage.group_size)
        + voted
        + _train(prompts, "solver", stage, steps)
    )


def _probe(config: RunConfig, prompts: PromptTokens) -> Work:
    """See :class:`agents.probe.Probe`: requests an item, with one or ``samples`` completions."""
    items, samples = config.probe.items, config.probe.samples

    def ask(role: Role, requests: float, samples: float = 1) -> Work:
        return _ask(prompts, role, requests, samples, PROBE_TOKENS)

    return (
        # Two levels of questions: greedy and blind once, sampled and from the caption often.
        ask("solver", 4 * items)
        + ask("solver", 4 * items, samples)
        + ask("coder", items)
        + ask("coder", items, samples)
        + Work(pictures=items * (1 + samples))
        + ask("proposer", items)
    )
