"""True accuracy of a policy in each role, measured on the probe.

Every metric is kept as one score an item, so that two checkpoints can be compared
on the same items: the interval of a paired difference is much narrower than the
difference of two intervals.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.policy import Policy
from mmzero_env import world
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed, extract_code, parse_proposal
from mmzero_env.prompts import PromptSet
from mmzero_env.protocol import (
    QUESTIONS,
    TOPICS,
    CodeForm,
    Drawing,
    Failure,
    Image,
    Proposal,
    RenderJob,
    Request,
    Response,
    Role,
    Sampling,
)
from mmzero_env.rendering import JobRenderer
from mmzero_env.voting import majority
from mmzero_env.world.faithful import faithful
from mmzero_env.world.probe import ProbeItem

Scores = Mapping[str, NDArray[np.float64]]
"""Metric name to one score in [0, 1] an item."""

_Z = 1.96


@dataclass(frozen=True)
class Estimate:
    """A mean over items with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def share(cls, scores: NDArray[np.float64]) -> Estimate:
        """Mean of scores in [0, 1] with a Wilson interval over items.

        Samples of one item are clustered, so the item is the unit: the number of
        trials in Wilson's formula (1927) is the effective one, p (1 - p) divided by the
        squared standard error of the mean, and the number of items if all agree.
        """
        n, mean = len(scores), float(np.mean(scores))
        variance = float(np.var(scores, ddof=1)) / n if n > 1 else 0.0
        trials = mean * (1 - mean) / variance if variance > 0 else n
        centre = (mean + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
        half = (mean * (1 - mean) / trials + _Z**2 / (4 * trials**2)) ** 0.5
        half *= _Z / (1 + _Z**2 / trials)
        return cls(mean, max(0.0, centre - half), min(1.0, centre + half), n)

    @classmethod
    def change(cls, before: NDArray[np.float64], after: NDArray[np.float64]) -> Estimate:
        """Mean difference over the same items with a normal interval."""
        apart = np.asarray(after) - np.asarray(before)
        n, mean = len(apart), float(np.mean(apart))
        half = _Z * float(np.std(apart, ddof=1)) / n**0.5 if n > 1 else 0.0
        return cls(mean, mean - half, mean + half, n)


class Probe:
    """Measures policies on fixed items.

    Args:
        items: What to measure on.
        prompts: The prompt set that the policies understand.
        renderer: Draws the true pictures and the Coder's codes.
        samples: Completions an item where a metric is an average over samples.
        max_tokens: Longest completion.
        forms: What the Coder may write.
    """

    def __init__(
        self,
        items: Sequence[ProbeItem],
        prompts: PromptSet,
        renderer: JobRenderer,
        *,
        samples: int = 8,
        max_tokens: int = 160,
        forms: Sequence[CodeForm] = ("svg",),
    ):
        self.items = list(items)
        self._prompts = prompts
        self._renderer = renderer
        self._samples = samples
        self._max_tokens = max_tokens
        self._forms = forms
        jobs = [RenderJob(item.id, item.spec.svg()) for item in self.items]
        self._truth = renderer.render(jobs)

    def solver(self, policy: Policy) -> Scores:
        """Accuracy on easy and hard questions.

        For each level: ``greedy``, ``sampled`` (mean of the samples), ``majority`` (of the
        samples), ``pass`` (any of the samples), ``blind`` (greedy, without the picture) and
        ``caption`` (mean of the samples, from the caption instead of the picture).
        """
        requests = []
        for number, item in enumerate(self.items):
            image = self._truth[number].image
            for level in QUESTIONS:
                question = item.questions[level].question
                asked = self._prompts.solver(question)
                told = self._prompts.solver_from_caption(item.spec.caption(), question)
                name, behind = f"{item.id}/{level}", item.proposal()
                requests += [
                    self._request(f"{name}/greedy", "solver", asked, behind, image=image, n=0),
                    self._request(f"{name}/sampled", "solver", asked, behind, image=image),
                    self._request(f"{name}/blind", "solver", asked, behind, n=0),
                    self._request(f"{name}/caption", "solver", told, behind),
                ]
        answers = self._answers(policy, requests)
        scores: dict[str, list[float]] = {}
        for item in self.items:
            for level in QUESTIONS:
                truth = item.questions[level].answer

                def right(given: str | None, truth: str = truth) -> float:
                    return float(given is not None and equivalent(given, truth))

                name = f"{item.id}/{level}"
                sampled = answers[f"{name}/sampled"]
                hits = [right(a) for a in sampled]
                values = {
                    "greedy": right(answers[f"{name}/greedy"][0]),
                    "sampled": float(np.mean(hits)),
                    "majority": right(majority(sampled).winner or None),
                    "pass": max(hits),
                    "blind": right(answers[f"{name}/blind"][0]),
                    "caption": float(np.mean([right(a) for a in answers[f"{name}/caption"]])),
                }
                for metric, value in values.items():
                    scores.setdefault(f"solver_{level}_{metric}", []).append(value)
        return _arrays(scores)

    def coder(self, policy: Policy) -> Scores:
        """``coder_render``, ``coder_faithful`` (means of the samples) and both greedy."""
        requests = []
        for item in self.items:
            behind = item.proposal()
            prompt = self._prompts.coder(behind, self._forms)
            requests.append(self._request(f"{item.id}/code/greedy", "coder", prompt, behind, n=0))
            requests.append(self._request(f"{item.id}/code/sampled", "coder", prompt, behind))
        responses = {r.request_id: r for r in policy.generate(requests)}
        codes = {
            f"{request.id}/{k}": extract_code(completion.text, self._forms)
            for request in requests
            for k, completion in enumerate(responses[request.id].completions)
        }
        jobs = [
            RenderJob(name, found[1], found[0])
            for name, found in codes.items()
            if found is not None
        ]
        drawings = dict(zip([job.id for job in jobs], self._renderer.render(jobs), strict=True))
        scores: dict[str, list[float]] = {}
        for number, item in enumerate(self.items):
            for mode, suffix in (("sampled", ""), ("greedy", "_greedy")):
                name = f"{item.id}/code/{mode}"
                drawn = [
                    drawings.get(f"{name}/{k}") for k in range(len(responses[name].completions))
                ]
                render = [float(d is not None and d.ok) for d in drawn]
                faithful = [self._faithful(d, number) for d in drawn]
                scores.setdefault(f"coder_render{suffix}", []).append(float(np.mean(render)))
                scores.setdefault(f"coder_faithful{suffix}", []).append(float(np.mean(faithful)))
        return _arrays(scores)

    def proposer(self, policy: Policy) -> Scores:
        """One score a proposal, as many proposals as items, topics in turn.

        ``proposer_format`` (six tags), ``proposer_valid`` (moreover the caption states a picture
        of the world and both questions apply to it), ``proposer_own_answer`` (moreover its easy
        answer is true), ``proposer_own_hard_answer``, and ``proposer_unique`` (no other proposal
        has the same caption).
        """
        requests = [
            self._request(f"probe/proposal/{i}", "proposer", self._prompts.proposer(topic), n=1)
            for i, topic in enumerate(_cycle(TOPICS, len(self.items)))
        ]
        texts = [r.completions[0].text for r in policy.generate(requests)]
        parsed = [parse_proposal(text) for text in texts]
        captions = [p.caption for p in parsed if isinstance(p, Proposal)]
        scores: dict[str, list[float]] = {}
        for proposal in parsed:
            unique = isinstance(proposal, Proposal) and captions.count(proposal.caption) == 1
            for metric, value in {**_check(proposal), "proposer_unique": unique}.items():
                scores.setdefault(metric, []).append(float(value))
        return _arrays(scores)

    def _request(
        self,
        name: str,
        role: Role,
        prompt: str,
        proposal: Proposal | None = None,
        *,
        image: Image | None = None,
        n: int | None = None,
    ) -> Request:
        # n = 0 asks for one greedy completion.
        count = self._samples if n is None else n
        return Request(
            id=name,
            role=role,
            prompt=prompt,
            n=max(count, 1),
            image=image,
            sampling=Sampling(temperature=1.0 if count else 0.0, max_tokens=self._max_tokens),
            seed=zlib.crc32(name.encode()),
            proposal=proposal,
        )

    def _answers(self, policy: Policy, requests: list[Request]) -> dict[str, list[str | None]]:
        responses: list[Response] = policy.generate(requests)
        return {r.request_id: [extract_boxed(c.text) for c in r.completions] for r in responses}

    def _faithful(self, drawing: Drawing | None, number: int) -> float:
        drawn = None if drawing is None else drawing.image
        return float(faithful(drawn, self._truth[number].image))


def _check(proposal: Proposal | Failure) -> dict[str, bool]:
    names = ("format", "valid", "own_answer", "own_hard_answer")
    verdict = dict.fromkeys((f"proposer_{name}" for name in names), False)
    if isinstance(proposal, Failure):
        return verdict
    verdict["proposer_format"] = True
    spec = world.parse_caption(proposal.caption)
    if spec is None:
        return verdict
    easy = world.answer(spec, proposal.easy_question)
    hard = world.answer(spec, proposal.hard_question)
    if easy is None or hard is None:
        return verdict
    verdict["proposer_valid"] = True
    verdict["proposer_own_answer"] = equivalent(proposal.easy_answer, easy)
    verdict["proposer_own_hard_answer"] = equivalent(proposal.hard_answer, hard)
    return verdict


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[i % len(values)] for i in range(count)]


def _arrays(scores: Mapping[str, list[float]]) -> Scores:
    return {name: np.array(values) for name, values in scores.items()}
