"""Pre-train the bundled nano model from scratch: python -m agents.nano.pretrain.

One command, seeded, no data but the procedural world: pictures with their
captions, questions about pictures and about captions, SVG, and proposals. It has
three phases: seeing (every token of a task counts the same), looking things up (the
steps after the survey of a picture count as much as the survey, there are four times
as many questions about captions, and later recall), and erring (demonstrations are
imperfect, see ``agents/nano/demonstrations.py`` for why, and soon proposals are
practised more). Held-out specs of the probe are never shown in any form.

    python -m agents.nano.pretrain --out runs/nano-base [--steps 5000] [--threads 1]

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
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

from agents.nano import architecture, card, curriculum, tokenizer
from agents.nano.curriculum import TASKS, Curriculum, Settings
from agents.nano.muon import Muon
from agents.nano.packing import Batch, Packer
from agents.probe import Probe
from agents.transformers import TransformersPolicy
from mmzero_env import world
from mmzero_env.errors import EngineError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import Renderer
from mmzero_env.world.probe import probe_items
from mmzero_env.world.spec import Spec


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
    specs = [curriculum.training_spec(rng) for _ in range(settings.pool)]
    pool = _load_pool(out / "pool.npy", specs)
    shown = Curriculum(settings, Packer(tok), specs, pool)
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
        loss = losses(model, shown.batch(step))
        (loss * weights[:, shown.phase(step)]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        keep = min(settings.average, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        running += loss.detach()
        if step % 50 == 0 or step == settings.steps:
            row = {"step": step, "seconds": round(time.monotonic() - started, 1)}
            mean = zip(TASKS, (running / (step % 50 or 50)).tolist(), strict=True)
            row |= {name: round(x, 4) for name, x in mean if x > 0}
            running.zero_()
            with (out / "curve.jsonl").open("a") as curve:
                curve.write(json.dumps(row) + "\n")
            print(row, flush=True)
        if step % settings.probe_every == 0 or step == settings.steps:
            row = {"step": step, **measure(average, tok, settings.probe_items)}
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
    folder = export(average, tok, out / "model")
    parameters = sum(p.numel() for p in model.parameters())
    card.write(folder, out, parameters=parameters, seed=settings.seed)
    return folder


def measure(
    model: Qwen3VLForConditionalGeneration, tok: PreTrainedTokenizerBase, items: int
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
    """Write a plain model folder: bfloat16 weights, tokenizer, processors."""
    plain = copy.deepcopy(model).to(torch.bfloat16)
    plain.generation_config.eos_token_id = tok.eos_token_id
    plain.generation_config.pad_token_id = tok.pad_token_id
    plain.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tok.save_pretrained(folder)
    architecture.save_processors(folder)
    return folder


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Pre-train the bundled nano model.")
    parser.add_argument("--out", type=Path, default=Path("runs/nano-base"))
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--pool", type=int, default=Settings.pool)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--probe-items", type=int, default=Settings.probe_items)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = Settings(
        steps=args.steps, pool=args.pool, seed=args.seed, probe_items=args.probe_items
    )
    print(f"the model is in {pretrain(settings, args.out)}")


if __name__ == "__main__":
    main()
