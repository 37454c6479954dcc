"""One step of the Solver's questions, graded by their silver labels.

Labels are those of the pool, voted at the start of the stage, or are voted anew by the
current Solver: by the answers that are trained on, or, for reward designs that label by the
caption, by as many fresh answers from the caption as voted at the start. Which of the two it
is and how the vote is counted is the business of :meth:`RewardDesign.label`.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.policy import Policy
from mmzero_env.episode import request_seed
from mmzero_env.grading import equivalent
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import Request, Response
from trainers.dispatcher import answer
from trainers.filters import LabelledQuestion
from trainers.groups import Group
from trainers.rollout_stats import Metrics, RolloutStats
from trainers.run_config import RunConfig


def ask(
    rows: Sequence[LabelledQuestion], policy: Policy, config: RunConfig, name: str
) -> tuple[list[Group], list[str | None], Metrics]:
    """Ask the Solver about every picture and grade its answers.

    Args:
        rows: The pictures and their hard questions.
        policy: The current Solver.
        config: The run.
        name: Prefix of the request ids, unique in the run.

    Returns:
        A group a row; the label it was graded by, None if the vote has no winner; and metrics:
        with online labels ``labels_changed`` is the share of questions whose label is no
        longer the one of the pool.
    """
    design, stage = config.design(), config.solver
    online = config.online_labels
    votes = design.caption_answers(stage.answers) if online else 0
    prompts = get_prompts(config.prompts)
    shown, read = [], []
    for k, row in enumerate(rows):
        shown.append(_request(f"{name}/{k}", prompts.solver(row.question), row, config))
        if votes:
            prompt = prompts.solver_from_caption(row.proposal.caption, row.question)
            read.append(_request(f"{name}/{k}/caption", prompt, row, config, voters=votes))
    found: list[RolloutStats] = []
    answers = answer(policy, [*shown, *read], on_stats=found.append)
    groups: list[Group] = []
    labels: list[str | None] = []
    for k, (row, request) in enumerate(zip(rows, shown, strict=True)):
        texts = _texts(answers[request.id])
        label: str | None = row.label
        if online:
            label = design.label(texts, _texts(answers[read[k].id]) if votes else ())
        turns = design.solver_rewards(texts, label, row.svg)
        groups.append(Group.of(request, answers[request.id], turns))
        labels.append(label)
    metrics: Metrics = {}
    if online:
        mode, tolerance = design.constants.grading, design.constants.tolerance
        kept = [
            label is not None and equivalent(label, row.label, mode=mode, tolerance=tolerance)
            for label, row in zip(labels, rows, strict=True)
        ]
        metrics["labels_changed"] = 1 - sum(kept) / len(kept)
    return groups, labels, {**metrics, **found[0].metrics()}


def _request(
    name: str, prompt: str, row: LabelledQuestion, config: RunConfig, *, voters: int = 0
) -> Request:
    """The question to the picture, or, with ``voters``, to the caption."""
    return Request(
        id=name,
        role="solver",
        prompt=prompt,
        n=voters or config.solver.group_size,
        image=None if voters else row.image,
        sampling=config.sampling("solver"),
        seed=request_seed(config.seed, name),
        proposal=row.proposal,
    )


def _texts(response: Response) -> list[str]:
    return [completion.text for completion in response.completions]
