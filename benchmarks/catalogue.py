"""The performance scripts that ``mmzero bench throughput`` runs, each with its command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmzero_env.rendering.system import Finding

ROOT = Path(__file__).parents[1]
VLLM_PYTHON = ".venv-vllm/bin/python"
"""Python of the environment that ``make test-vllm`` makes."""


@dataclass(frozen=True)
class Entry:
    """A script with the options that it is called with.

    Attributes:
        name: Name in the table, and of its result.
        module: Its module.
        group: Heading of the page that it comes under.
        about: What it measures, in a sentence or two.
        full: Its options.
        seconds: What it takes with them on two cores with nothing else to do, about.
        quick: Its options in quick mode; None for what has no quick version.
        quick_seconds: The same for quick mode.
        needs: Looks for what the script cannot do without; None if it is there.
        python: The interpreter: ``"python"`` for this one, or a path from the repository root.
    """

    name: str
    module: str
    group: str
    about: str
    full: tuple[str, ...]
    seconds: float
    quick: tuple[str, ...] | None = None
    quick_seconds: float = 0.0
    needs: Callable[[], Finding | None] = lambda: None
    python: str = "python"

    def options(self, quick: bool) -> tuple[str, ...]:
        """Its options in either mode.

        Raises:
            ValueError: If it has no quick version and one is asked for.
        """
        if not quick:
            return self.full
        if self.quick is None:
            raise ValueError(f"{self.name} has no quick version")
        return self.quick

    def words(self, quick: bool) -> tuple[str, ...]:
        """The command that is run, without the file for its figures."""
        return (self.python, "-m", self.module, *self.options(quick))

    def expected(self, quick: bool) -> float:
        """Seconds that it takes, about."""
        return self.quick_seconds if quick else self.seconds


def extra(name: str) -> Callable[[], Finding | None]:
    """Looks for the packages of an extra."""

    def look() -> Finding | None:
        found = next(each for each in _features() if each.name == name)
        return None if found.ok else found

    return look


@cache
def _features() -> list[Finding]:
    from trainers import inventory

    return inventory.features()


def _figures() -> Finding | None:
    from mmzero_env.rendering.figures import missing_for_figures

    missing = missing_for_figures()
    if missing is None:
        return None
    reason, _, mend = missing.partition(": ")
    return Finding("python figures", False, reason, mend)


def _gpu() -> Finding | None:
    from trainers import inventory

    found = inventory.gpus()
    if any(each.ok and each.name != "GPU" for each in found):
        return None
    mend = found[0].mend or "Run it where there is one: an NVIDIA GPU of 80 GB."
    return Finding("GPU", False, found[0].detail, mend)


def _vllm() -> Finding | None:
    python, mend = ROOT / VLLM_PYTHON, "make test-vllm"
    if not python.exists():
        return Finding("vLLM", False, f"there is no {VLLM_PYTHON}", mend)
    looks = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    if subprocess.run([python, "-c", looks], check=False).returncode:
        return Finding("vLLM", False, f"{VLLM_PYTHON} has no vllm", mend)
    return None


ENVIRONMENT, DRAWING, ROLLOUTS, TRAINING, PLANS = (
    "Environment and rewards",
    "Drawing",
    "Rollouts and engines",
    "Training",
    "Plans against measurement",
)

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "environment",
        "benchmarks.environment",
        ENVIRONMENT,
        "The environment with scripted players: turns and scored episodes in a CPU second, the "
        "cost of an episode late in a long run, and odd actions.",
        ("--episodes", "200", "--long", "10000", "--fuzz", "100000"),
        200,
        ("--episodes", "30", "--rounds", "3", "--long", "200", "--fuzz", "1000"),
        8,
    ),
    Entry(
        "scoring",
        "benchmarks.scoring",
        ENVIRONMENT,
        "Parsing, voting and rewards of finished episodes by reward design, and one more episode "
        "in the window that diversity is taken over.",
        ("--episodes", "1000"),
        140,
        ("--episodes", "60", "--rounds", "2"),
        7,
    ),
    Entry(
        "diversity",
        "benchmarks.diversity",
        ENVIRONMENT,
        "Clusters of near-copies, beside the pair-by-pair computation of the published code.",
        ("--large",),
        240,
        ("--sizes", "100"),
        5,
    ),
    Entry(
        "rendering",
        "benchmarks.rendering",
        DRAWING,
        "From SVG to a numpy picture of 448 px, guard included, beside the published path "
        "(CairoSVG to a PNG file, base64, back to numpy); the worker pool; peak memory over "
        "hostile files.",
        (),
        240,
        ("--quick", "--limit", "8"),
        13,
    ),
    Entry(
        "render_pool",
        "benchmarks.render_pool",
        DRAWING,
        "The worker pool beside a plain call and pebble's pool, and what a hang and a crash cost.",
        (),
        110,
        ("--quick",),
        16,
    ),
    Entry(
        "guard_fuzz",
        "benchmarks.guard_fuzz",
        DRAWING,
        "Mutated documents against the guard, judged by another parser.",
        ("--count", "100000", "--draw-share", "0.01"),
        180,
        ("--count", "1000", "--draw-share", "0.01"),
        4,
    ),
    Entry(
        "figures",
        "benchmarks.figures",
        DRAWING,
        "One Python figure in the sandbox, and how much of it is the start.",
        (),
        40,
        ("--repeat", "1"),
        8,
        _figures,
    ),
    Entry(
        "rollout",
        "benchmarks.rollout",
        ROLLOUTS,
        "Streaming rollouts against a barrier after every phase, over simulated engines with "
        "lengths as large models have them, and what the collector costs a request.",
        (),
        900,
        ("--quick",),
        22,
        extra("endpoint"),
    ),
    Entry(
        "rollout_vllm",
        "benchmarks.rollout",
        ROLLOUTS,
        "The same on a real vLLM server on the CPU, with the nano model, scripted texts and "
        "lengths drawn as for large models.",
        ("--serve", VLLM_PYTHON, "--lengths", "8", "--seeds", "7"),
        900,
        needs=_vllm,
    ),
    Entry(
        "http_overhead",
        "benchmarks.http_overhead",
        ROLLOUTS,
        "What our clients of OpenAI-compatible endpoints and of vLLM cost a request, beside the "
        "HTTP library alone.",
        (),
        60,
        ("--rounds", "2", "--requests", "800"),
        15,
        extra("endpoint"),
    ),
    Entry(
        "vllm_adapters",
        "benchmarks.vllm_adapters",
        ROLLOUTS,
        "Tokens a second of one vLLM engine with no LoRA adapter, one, and three in one batch.",
        (),
        240,
        needs=_vllm,
        python=VLLM_PYTHON,
    ),
    Entry(
        "ray_executor",
        "benchmarks.ray_executor",
        ROLLOUTS,
        "Pictures and episodes by Ray beside the processes of one machine.",
        (),
        60,
        ("--quick",),
        14,
        extra("ray"),
    ),
    Entry(
        "train_step",
        "benchmarks.train_step",
        TRAINING,
        "A whole Solver step on the nano model beside a bare PyTorch loop and TRL's own trainer.",
        (),
        120,
        ("--repetitions", "2", "--steps", "1"),
        22,
    ),
    Entry(
        "grpo_step",
        "benchmarks.grpo_step",
        TRAINING,
        "A GRPO step of 64 nano rollouts of each role, by its parts.",
        (),
        90,
        ("--steps", "1", "--pool", "80"),
        22,
    ),
    Entry(
        "evolve_cost",
        "benchmarks.evolve_cost",
        TRAINING,
        "A whole mmzero evolve: wall time by stage, memory of all its processes.",
        (),
        360,
    ),
    Entry(
        "resume_cost",
        "benchmarks.resume_cost",
        TRAINING,
        "What it costs to be able to resume, and to start again after a kill.",
        (),
        300,
    ),
    Entry(
        "gpu_step_4b",
        "benchmarks.gpu_step",
        TRAINING,
        "One optimizer step of each role on a model of the shape of Qwen3-VL-4B.",
        ("--shape", "4b", "--lora", "16"),
        180,
        needs=_gpu,
    ),
    Entry(
        "gpu_step_8b",
        "benchmarks.gpu_step",
        TRAINING,
        "The same on a model of the shape of Qwen3-VL-8B.",
        ("--shape", "8b", "--lora", "16"),
        300,
        needs=_gpu,
    ),
    Entry(
        "plan_check",
        "benchmarks.plan_check",
        PLANS,
        "Memory as mmzero plan predicts it against a real step of the nano model.",
        ("--all",),
        30,
        (),
        9,
    ),
    Entry(
        "scale",
        "benchmarks.scale",
        PLANS,
        "How many GPUs one process that plays can keep busy: computed from the costs in its second "
        "table, not measured.",
        (),
        6,
        (),
        6,
    ),
)
"""All of them, in the order of the page."""
