"""Pre-train the bundled nano model from scratch: python -m agents.nano.pretrain.

One command, seeded, no data but the procedural world: pictures with their
captions, questions about pictures and about captions, SVG, and proposals. It has
three phases: seeing (every token of a task counts the same), looking things up (the
steps after the survey of a picture count as much as the survey, and there are four
times as many questions about captions), and erring (demonstrations are imperfect, see
``agents/nano/demonstrations.py`` for why). Held-out specs of the probe are
never shown in any form.

    python -m agents.nano.pretrain --out runs/nano-base [--steps 5500] [--threads 1]

An interrupted run goes on from its last checkpoint when it is started again with
the same arguments. ``curve.jsonl`` holds the losses, ``probe.jsonl`` the true accuracy
of the averaged weights on the probe.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

from agents.nano import architecture, demonstrations, tokenizer
from agents.nano.muon import Muon
from agents.nano.packing import Batch, Example, Packer, Passage
from agents.probe import Probe
from agents.transformers import TransformersPolicy
from mmzero_env import world
from mmzero_env.errors import EngineError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import QUESTIONS, TOPICS, Proposal, RenderJob
from mmzero_env.rendering import Renderer
from mmzero_env.world.probe import probe_items
from mmzero_env.world.spec import Spec
from mmzero_env.world.split import draw

# Tasks with their weight in the loss, while seeing and later; a weight is spread over the
# task's tokens. "survey" is what a solution says of the whole picture before it answers.
TASKS = {
    "describe": (0.15, 0.10),
    "easy": (0.20, 0.18),
    "hard": (0.25, 0.25),
    "code": (0.20, 0.20),
    "proposal": (0.08, 0.08),
    "caption": (0.22, 0.30),
    "survey": (0.00, 0.10),
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
        captions: Questions about captions a step, each about its own, while seeing.
        passages: Captions a step after that, each with ``questions`` questions.
        questions: Questions about one caption.
        pool: Pictures rendered beforehand and drawn from.
        matrix_lr: Learning rate of Muon, for matrices.
        other_lr: Learning rate of AdamW, for embeddings, norms and biases.
        lookup_from: Share of the run after which looking up is practised.
        noisy_from: Share of the run after which demonstrations are imperfect.
        decay_from: Share of the run after which learning rates fall linearly to zero.
        average: Decay of the running average of the weights that is saved.
        probe_every: Steps between two measurements of the averaged weights.
        seed: Seeds initialisation and data.
    """

    steps: int = 5500
    pictures: int = 12
    codes: int = 6
    proposals: int = 4
    captions: int = 10
    passages: int = 8
    questions: int = 5
    pool: int = 24000
    matrix_lr: float = 5e-3
    other_lr: float = 3e-3
    lookup_from: float = 4 / 11
    noisy_from: float = 0.5
    decay_from: float = 0.6
    average: float = 0.99
    probe_every: int = 500
    seed: int = 0


def training_spec(rng: random.Random, topic: str | None = None) -> Spec:
    """A spec that is not held out for the probe."""
    return draw(rng, lambda r: world.sample_spec(r, topic=topic), probe=False)


def render_pool(specs: Sequence[Spec]) -> np.ndarray:
    """Draw the specs.

    Returns:
        Pictures, shape (len(specs), 96, 96, 3), dtype uint8.

    Raises:
        EngineError: If one of the world's own pictures does not render.
    """
    jobs = [RenderJob(str(i), spec.svg()) for i, spec in enumerate(specs)]
    with Renderer(size=world.SIDE, workers=0) as renderer:
        drawings = renderer.render(jobs)
    for spec, drawing in zip(specs, drawings, strict=True):
        if drawing.image is None:
            raise EngineError(f"{spec} did not render: {drawing.failure}")
    return np.stack([drawing.image for drawing in drawings if drawing.image is not None])


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
        lookup = self.looks_up(step)
        chosen = [rng.randrange(len(self._specs)) for _ in range(s.pictures)]
        pictures = [self._about_picture(self._specs[i], rng, noise, lookup) for i in chosen]
        images = [PILImage.fromarray(self._pool[i]) for i in chosen]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        texts = [self._code(rng, noise) for _ in range(s.codes)]
        texts += [self._proposal(rng, noise) for _ in range(s.proposals)]
        if lookup:
            passages = [self._passage(rng, noise) for _ in range(s.passages)]
            return self._packer.pack(pictures, texts, pixels, passages)
        texts += [self._about_caption(rng, noise) for _ in range(s.captions)]
        return self._packer.pack(pictures, texts, pixels)

    def looks_up(self, step: int) -> bool:
        """Whether a step belongs to a phase after seeing."""
        return step >= round(self._settings.lookup_from * self._settings.steps)

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


def losses(model: Qwen3VLForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of each task's target tokens, shape (len(TASKS),), nats."""
    hidden = model.model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        mm_token_type_ids=(batch.input_ids == model.config.image_token_id).int(),
        use_cache=False,
    ).last_hidden_state
    target = batch.task[:, 1:] >= 0
    logits = model.lm_head(hidden[:, :-1][target])
    nll = torch.nn.functional.cross_entropy(
        logits, batch.input_ids[:, 1:][target], reduction="none"
    )
    task = batch.task[:, 1:][target]
    total = torch.zeros(len(TASKS)).index_add(0, task, nll)
    return total / torch.bincount(task, minlength=len(TASKS)).clamp(min=1)


def optimizers(
    model: Qwen3VLForConditionalGeneration, settings: Settings
) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices, AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim == 2 and not any(
            part in name for part in ("embed", "lm_head", "merger")
        )
        (matrices if hidden else others).append(parameter)
    return [
        Muon(matrices, lr=settings.matrix_lr),
        torch.optim.AdamW(others, lr=settings.other_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(step: int, settings: Settings) -> float:
    """Factor on the learning rates: 50 steps of warm-up, constant, linear to zero."""
    start = settings.decay_from * settings.steps
    decay = (settings.steps - step) / (settings.steps - start)
    return min(1.0, (step + 1) / 50, max(0.0, decay))


def pretrain(settings: Settings, out: Path) -> Path:
    """Run the pre-training and write a Hugging Face model folder.

    Args:
        settings: The run.
        out: Folder for checkpoint, curve and the finished model.

    Returns:
        The model folder, ``out / "model"``.
    """
    out.mkdir(parents=True, exist_ok=True)
    tok = tokenizer.build()
    model = architecture.initial_model(tok, settings.seed)
    average = copy.deepcopy(model).eval()
    opts = optimizers(model, settings)
    base_rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    rng = random.Random(settings.seed)
    specs = [training_spec(rng) for _ in range(settings.pool)]
    pool = _load_pool(out / "pool.npy", specs)
    curriculum = Curriculum(settings, Packer(tok), specs, pool)
    weights = torch.tensor(list(TASKS.values()))
    checkpoint = out / "checkpoint.pt"
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for opt, saved in zip(opts, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        step, spent = state["step"], state["seconds"]
        print(f"resumed at step {step}", flush=True)
    started, running = time.monotonic() - spent, torch.zeros(len(TASKS))
    model.train()
    while step < settings.steps:
        factor = rate(step, settings)
        for opt, lrs in zip(opts, base_rates, strict=True):
            for group, lr in zip(opt.param_groups, lrs, strict=True):
                group["lr"] = lr * factor
        loss = losses(model, curriculum.batch(step))
        (loss * weights[:, int(curriculum.looks_up(step))]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        keep = min(settings.average, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        running += loss.detach()
        if step % 50 == 0:
            row = {"step": step, "seconds": round(time.monotonic() - started, 1)}
            row |= {
                name: round(x, 4) for name, x in zip(TASKS, (running / 50).tolist(), strict=True)
            }
            running.zero_()
            with (out / "curve.jsonl").open("a") as curve:
                curve.write(json.dumps(row) + "\n")
            print(row, flush=True)
        if step % settings.probe_every == 0 or step == settings.steps:
            row = {"step": step, **measure(average, tok)}
            with (out / "probe.jsonl").open("a") as curve:
                curve.write(json.dumps(row) + "\n")
        if step % 250 == 0 or step == settings.steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizers": [opt.state_dict() for opt in opts],
                "step": step,
                "seconds": time.monotonic() - started,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    return export(average, tok, out / "model")


def measure(
    model: Qwen3VLForConditionalGeneration, tok: PreTrainedTokenizerBase, items: int = 100
) -> dict[str, float]:
    """True accuracy of a model in every role on the probe, rounded to three digits."""
    policy = TransformersPolicy(
        model, tokenizer=tok, image_processor=architecture.image_processor()
    )
    with Renderer(size=world.SIDE, workers=0) as renderer:
        probe = Probe(probe_items(items), get_prompts("nano"), renderer, samples=4)
        scores = {**probe.solver(policy), **probe.coder(policy), **probe.proposer(policy)}
    return {name: round(float(values.mean()), 3) for name, values in scores.items()}


def _load_pool(path: Path, specs: list[Spec]) -> np.ndarray:
    if path.exists():
        pool = np.load(path)
        if len(pool) == len(specs):
            return pool
    print(f"rendering {len(specs)} pictures", flush=True)
    pool = render_pool(specs)
    np.save(path, pool)
    return pool


def export(
    model: Qwen3VLForConditionalGeneration, tok: PreTrainedTokenizerBase, folder: Path
) -> Path:
    """Write a plain model folder: bfloat16 weights, tokenizer, image processor."""
    plain = copy.deepcopy(model).to(torch.bfloat16)
    plain.generation_config.eos_token_id = tok.eos_token_id
    plain.generation_config.pad_token_id = tok.pad_token_id
    plain.save_pretrained(folder)
    tok.save_pretrained(folder)
    architecture.image_processor().save_pretrained(folder)
    return folder


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Pre-train the bundled nano model.")
    parser.add_argument("--out", type=Path, default=Path("runs/nano-base"))
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--pool", type=int, default=Settings.pool)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = Settings(steps=args.steps, pool=args.pool, seed=args.seed)
    print(f"the model is in {pretrain(settings, args.out)}")


if __name__ == "__main__":
    main()
