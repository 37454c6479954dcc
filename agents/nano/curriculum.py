"""What the nano model is shown, step by step."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image as PILImage

from agents.nano import architecture, demonstrations, tokenizer
from agents.nano.packing import Batch, Example, Packer, Passage
from mmzero_env import world
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import QUESTIONS, TOPICS, Proposal
from mmzero_env.world.spec import Spec
from mmzero_env.world.split import draw

# Tasks with their weight in the loss, while seeing, looking up, and proposing more; a weight
# is spread over the task's tokens. "survey" is what a solution says of the whole picture before
# it answers, "recall" repeats entries of a caption in random order: looking up, nothing else.
TASKS = {
    "describe": (0.15, 0.10, 0.08),
    "easy": (0.20, 0.18, 0.18),
    "hard": (0.25, 0.25, 0.25),
    "code": (0.20, 0.20, 0.20),
    "proposal": (0.08, 0.08, 0.30),
    "caption": (0.22, 0.30, 0.25),
    "survey": (0.00, 0.10, 0.10),
    "recall": (0.00, 0.30, 0.10),
}
_TASK = {name: i for i, name in enumerate(TASKS)}


@dataclass(frozen=True)
class Settings:
    """One pre-training run.

    Attributes:
        steps: Optimizer steps.
        pictures: Pictures a step, each with four examples.
        codes: Coder examples a step.
        proposals: Proposer examples a step.
        more_proposals: The same when proposing is practised more.
        captions: Questions about captions a step, each about its own, while seeing.
        passages: Captions a step after that, each with ``questions`` questions.
        questions: Questions about one caption.
        recalls: Recall examples a step.
        pool: Pictures rendered beforehand and drawn from.
        matrix_lr: Learning rate of Muon, for matrices.
        other_lr: Learning rate of AdamW, for embeddings, norms and biases.
        lookup_from: Share of the run after which looking up is practised.
        recall_from: Share of the run after which recall is practised, too.
        propose_from: Share of the run after which there are more proposals.
        noisy_from: Share of the run after which demonstrations are imperfect.
        decay_from: Share of the run after which learning rates fall linearly to zero.
        average: Decay of the running average of the weights that is saved.
        probe_every: Steps between two measurements of the averaged weights.
        probe_items: Held-out pictures that they are measured on.
        seed: Seeds initialisation and data.
    """

    steps: int = 5000
    pictures: int = 12
    codes: int = 6
    proposals: int = 4
    more_proposals: int = 10
    captions: int = 10
    passages: int = 8
    questions: int = 5
    recalls: int = 12
    pool: int = 24000
    matrix_lr: float = 5e-3
    other_lr: float = 3e-3
    lookup_from: float = 0.4
    recall_from: float = 0.65
    propose_from: float = 0.8
    noisy_from: float = 0.76
    decay_from: float = 0.7
    average: float = 0.99
    probe_every: int = 500
    probe_items: int = 100
    seed: int = 0


def training_spec(rng: random.Random, topic: str | None = None) -> Spec:
    """A spec that is not held out for the probe."""
    return draw(rng, lambda r: world.sample_spec(r, topic=topic), probe=False)


class Curriculum:
    """Draws packed batches."""

    def __init__(self, settings: Settings, packer: Packer, specs: list[Spec], pool: np.ndarray):
        self._settings = settings
        self._packer = packer
        self._specs = specs
        self._pool = pool
        self._processor = architecture.image_processor()
        self._prompts = get_prompts("nano")

    def batch(self, step: int) -> Batch:
        """The batch of a step; it depends on the seed and the step alone."""
        s = self._settings
        rng = random.Random(f"{s.seed}/{step}")
        noisy = step >= s.noisy_from * s.steps
        noise = demonstrations.NOISY if noisy else demonstrations.CLEAN
        phase = self.phase(step)
        lookup = phase > 0
        chosen = [rng.randrange(len(self._specs)) for _ in range(s.pictures)]
        pictures = [self._about_picture(self._specs[i], rng, noise, lookup) for i in chosen]
        images = [PILImage.fromarray(self._pool[i]) for i in chosen]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        texts = [self._code(rng, noise) for _ in range(s.codes)]
        count = s.more_proposals if phase == 2 else s.proposals
        texts += [self._proposal(rng, noise) for _ in range(count)]
        if lookup:
            passages = [self._passage(rng, noise) for _ in range(s.passages)]
            if step >= round(s.recall_from * s.steps):
                texts += [self._recall(rng) for _ in range(s.recalls)]
            return self._packer.pack(pictures, texts, pixels, passages)
        texts += [self._about_caption(rng, noise) for _ in range(s.captions)]
        return self._packer.pack(pictures, texts, pixels)

    def phase(self, step: int) -> int:
        """0 while seeing, 1 while looking up, 2 while proposing more."""
        s = self._settings
        return sum(step >= round(share * s.steps) for share in (s.lookup_from, s.propose_from))

    def _about_picture(
        self, spec: Spec, rng: random.Random, noise: demonstrations.Noise, lookup: bool
    ) -> list[Example]:
        examples = [Example(tokenizer.DESCRIBE, spec.caption(), _TASK["describe"])]
        for level in ("easy", "hard", "hard"):
            question = spec.ask(level, rng)
            target = demonstrations.solution(spec, question, rng, getattr(noise, level))
            survey, so, _ = target.partition(", so")
            opening = survey if so and lookup else ""
            prompt = self._prompts.solver(question)
            examples.append(Example(prompt, target, _TASK[level], opening, _TASK["survey"]))
        return examples

    def _passage(self, rng: random.Random, noise: demonstrations.Noise) -> Passage:
        spec = training_spec(rng)
        opening = spec.caption() + "\n"
        examples = []
        for _ in range(self._settings.questions):
            question = spec.ask(rng.choice(QUESTIONS), rng)
            prompt = self._prompts.solver_from_caption(spec.caption(), question)
            target = demonstrations.solution(spec, question, rng, noise.caption, from_caption=True)
            examples.append(Example(prompt.removeprefix(opening), target, _TASK["caption"]))
        return Passage(opening, examples)

    def _about_caption(self, rng: random.Random, noise: demonstrations.Noise) -> Example:
        spec = training_spec(rng)
        question = spec.ask(rng.choice(QUESTIONS), rng)
        prompt = self._prompts.solver_from_caption(spec.caption(), question)
        target = demonstrations.solution(spec, question, rng, noise.caption, from_caption=True)
        return Example(prompt, target, _TASK["caption"])

    def _recall(self, rng: random.Random) -> Example:
        spec = training_spec(rng)
        entries = spec.entries()
        target = ", ".join(rng.choice(entries) for _ in range(12))
        return Example(f"{spec.caption()}\nRecall.", target, _TASK["recall"])

    def _code(self, rng: random.Random, noise: demonstrations.Noise) -> Example:
        spec = training_spec(rng)
        fields = []
        for level in QUESTIONS:
            question = spec.ask(level, rng)
            answer = world.answer(spec, question) or ""
            # A coder meets proposals with wrong answers too and must draw the caption.
            if rng.random() < noise.own_answer:
                answer = demonstrations.wrong(answer, rng)
            fields += [question, answer]
        prompt = self._prompts.coder(Proposal(spec.content_type, spec.caption(), *fields))
        return Example(prompt, demonstrations.code(spec, rng, noise), _TASK["code"])

    def _proposal(self, rng: random.Random, noise: demonstrations.Noise) -> Example:
        topic = rng.choice(TOPICS)
        target = demonstrations.proposal(training_spec(rng, topic), rng, noise)
        return Example(self._prompts.proposer(topic), target, _TASK["proposal"])
