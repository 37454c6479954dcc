"""Pools of training prompts: what a stage collects from the frozen roles before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from agents.policy import Policy
from mmzero_env.episode import request_seed
from mmzero_env.parsing import extract_code, parse_proposal
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import TOPICS, Proposal, RenderJob, Request, Response
from mmzero_env.rendering import JobRenderer
from trainers.dispatcher import answer, next_event
from trainers.render_queue import Drawn, RenderQueue
from trainers.run_config import RunConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Proposals:
    """Proposals that parsed, and how many were sampled to get them."""

    parsed: tuple[Proposal, ...]
    sampled: int


def topics(count: int, start: int = 0) -> list[str]:
    """The seed topics in turn."""
    return [TOPICS[(start + i) % len(TOPICS)] for i in range(count)]


def propose(policy: Policy, config: RunConfig, name: str, count: int) -> Proposals:
    """Sample proposals on all topics in turn.

    Args:
        policy: The frozen Proposer.
        config: The run.
        name: Prefix of the request ids, unique in the run.
        count: Proposals to sample.
    """
    prompts = get_prompts(config.prompts)
    requests = [
        Request(
            id=f"{name}/proposal/{i}",
            role="proposer",
            prompt=prompts.proposer(topic),
            sampling=config.sampling("proposer"),
            seed=request_seed(config.seed, f"{name}/proposal/{i}"),
        )
        for i, topic in enumerate(topics(count))
    ]
    answers = answer(policy, requests)
    parsed = [parse_proposal(answers[request.id].completions[0].text) for request in requests]
    return Proposals(tuple(p for p in parsed if isinstance(p, Proposal)), count)


def render_rates(
    policy: Policy,
    renderer: JobRenderer,
    config: RunConfig,
    name: str,
    proposals: Sequence[Proposal],
    codes: int,
) -> list[float]:
    """Share of the codes to each proposal that render.

    Codes are drawn while the Coder writes the next ones, if it streams.

    Args:
        policy: The current Coder.
        renderer: Draws the codes.
        config: The run.
        name: Prefix of the request ids, unique in the run.
        proposals: What to draw.
        codes: Codes a proposal (4 in the official filter).
    """
    prompts = get_prompts(config.prompts)
    requests = [
        Request(
            id=f"{name}/code/{i}",
            role="coder",
            prompt=prompts.coder(proposal, config.code_forms),
            n=codes,
            sampling=config.sampling("coder"),
            seed=request_seed(config.seed, f"{name}/code/{i}"),
            proposal=proposal,
        )
        for i, proposal in enumerate(proposals)
    ]
    events: SimpleQueue[Drawn] = SimpleQueue()
    drawn: set[str] = set()
    with RenderQueue(renderer, events.put) as drawings:

        def draw(request: Request, response: Response) -> None:
            for k, completion in enumerate(response.completions):
                found = extract_code(completion.text, config.code_forms)
                if found is not None:
                    form, code = found
                    drawings.add([RenderJob(f"{request.id}/{k}", code, form)])

        answer(policy, requests, on_answer=draw)
        while drawings.pending:
            for job, drawing in drawings.settle(next_event(events)):
                if drawing.ok:
                    drawn.add(job.id)
    return [sum(f"{r.id}/{k}" in drawn for k in range(codes)) / codes for r in requests]


def epochs(rows: Sequence[T], shuffle: Callable[[list[int]], None]) -> Iterator[T]:
    """Rows without end, every pass in a fresh order.

    Args:
        rows: At least one row.
        shuffle: Shuffles a list in place.
    """
    while True:
        order = list(range(len(rows)))
        shuffle(order)
        yield from (rows[i] for i in order)
