"""What of the documentation is not run by tests/test_docs_run.py, each with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Elsewhere:
    """Commands or blocks that are not run.

    Attributes:
        pattern: Matched from the start of the words of a command, joined by spaces, or of
            "PAGE: CODE" of a block.
        reason: Why not.
        test: The file that runs the same thing, or its parts, if there is one.
        says: What stands in that file.
    """

    pattern: str
    reason: str
    test: str = ""
    says: str = ""

    def covers(self, text: str) -> bool:
        return re.match(self.pattern, text, re.DOTALL) is not None


_DESIGNS = "tests/mmzero_env/test_reward_designs.py"
_SERVE, _RAY = "tests/trainers/test_serve.py", "tests/trainers/test_ray.py"
_TRACKERS = "tests/trainers/test_trackers.py"
_PLAY = "tests/trainers/play"
_LMMS = "tests/lmms_eval/test_real.py"
_GPU_PRESET = r"mmzero evolve --preset qwen3vl-\S+"

COMMANDS = (
    # They change the machine, or want a network.
    Elsewhere("make (lint|docs|test-vllm|test-eval)", "installs", ".ci/run", "make docs"),
    Elsewhere("make test$", "would run this test again", ".ci/run", "make test"),
    Elsewhere("make lmms-eval", "installs 1.5 GB", ".ci/run", "make test-eval"),
    Elsewhere(
        "make evolve", "installs; what it calls then is run here", "Makefile", "mmzero evolve"
    ),
    Elsewhere("(pip|sudo apt-get|brew) install", "installs"),
    Elsewhere("git clone", "a network and the reader's own fork"),
    Elsewhere(
        ".venv/bin/pre-commit install", "changes the clone; `make lint` does the same checks"
    ),
    Elsewhere("hf (download|auth)|wandb sync", "a network, an account"),
    Elsewhere("ssh", "another machine"),
    # Programs of others, which run until they are stopped.
    Elsewhere("tensorboard", "a server", _TRACKERS, "EventAccumulator"),
    Elsewhere(
        "trackio show", "a server of a package that is not installed", _TRACKERS, "test_trackio_"
    ),
    Elsewhere("ray start", "daemons that outlive the test", _RAY, "Cluster"),
    Elsewhere("vllm serve", "vLLM", "tests/vllm/conftest.py", "VllmProcess("),
    # vLLM, Ray, lmms-eval, several processes: tests of their own.
    Elsewhere("mmzero serve", "vLLM", _SERVE, '"trainers.cli", "serve"'),
    Elsewhere("mmzero evolve .*policy=vllm ", "vLLM", "tests/vllm/test_evolve.py", '"vllm"'),
    Elsewhere("mmzero evolve .*executor=ray", "Ray and vLLM", _RAY, "RayExecutor("),
    Elsewhere(
        "accelerate launch", "several processes", "tests/trainers/test_ranks.py", "two_ranks"
    ),
    Elsewhere("mmzero eval .*--suite mmzero-probe", "lmms-eval", _LMMS, '"mmzero-probe"'),
    Elsewhere(
        "mmzero eval .*--suite (paper|chartqa)",
        "lmms-eval, and sets of some GB",
        "tests/benchmarks/downstream/test_command.py",
        '"paper"',
    ),
    Elsewhere(
        "mmzero evolve .*trackers=(wandb|trackio)",
        "wandb takes ten seconds to start, trackio does not go with constraints.txt",
        _TRACKERS,
        "test_weights_and_biases_offline",
    ),
    # A person.
    Elsewhere("mmzero play --page", "a person at a browser", f"{_PLAY}/test_page.py", "human"),
    Elsewhere(
        "mmzero play .*human", "a person", f"{_PLAY}/test_terminal_person.py", "scripted:oracle"
    ),
    # A GPU.
    Elsewhere(_GPU_PRESET, "80 GB of GPU memory", "tests/trainers/test_plan.py", "-8x80gb-full"),
    Elsewhere("python -m pytest -m gpu", "a GPU", "tests/benchmarks/test_gpu_step.py", "mark.gpu"),
    Elsewhere(
        r"python -m benchmarks\.gpu_step",
        "a GPU",
        "tests/benchmarks/test_gpu_step.py",
        "gpu_step.main(",
    ),
    Elsewhere(r"\S+ -m benchmarks\.vllm_adapters", "vLLM, four minutes"),
    # Small versions of these are run by tests of their own.
    Elsewhere(
        r"python -m benchmarks\.rendering",
        "a minute",
        "tests/benchmarks/test_rendering.py",
        'rendering.main(["--gallery"',
    ),
    Elsewhere(
        r"python -m benchmarks\.rollout",
        "a minute",
        "tests/benchmarks/test_rollout.py",
        'rollout.main(["--serve"',
    ),
    Elsewhere(
        r"python -m benchmarks\.plan_check --all",
        "four of what is run here once",
        "tests/benchmarks/test_plan_check.py",
        "check(",
    ),
    Elsewhere(
        r"python -m agents\.nano\.pretrain",
        "two hours",
        "tests/agents/test_nano_training.py",
        '"agents.nano.pretrain"',
    ),
    Elsewhere(
        "mmzero bench rewards --ground nano",
        "a quarter of an hour",
        "tests/benchmarks/test_rewards.py",
        '"nano"',
    ),
    Elsewhere(
        "mmzero bench throughput --publish",
        "80 minutes; --quick is not published",
        "tests/benchmarks/test_throughput.py",
        '"--publish"',
    ),
    Elsewhere(
        "mmzero bench study",
        "a quarter of an hour with --quick, else hours",
        "tests/benchmarks/test_study.py",
        '"study", "--plan"',
    ),
    # Their smallest size takes too long.
    Elsewhere(
        r"python -m benchmarks\.collapse",
        "a quarter of an hour; --table 5 s for what the other test does, too",
        "tests/benchmarks/test_collapse.py",
        "table(",
    ),
    Elsewhere(
        r"python -m benchmarks\.figures",
        "8 s at its smallest; an example of docs/rendering-python.md draws one",
        "tests/mmzero_env/rendering/test_figures.py",
        "FigureSandbox(",
    ),
    Elsewhere(
        r"python -m benchmarks\.train_step",
        "8 s at its smallest",
        "tests/benchmarks/test_train_step.py",
        "BareLoop(",
    ),
    Elsewhere(
        r"python -m benchmarks\.resume_cost",
        "kills and starts again four processes, a minute at its smallest",
        "tests/benchmarks/test_resume_cost.py",
        "Stopwatch(",
    ),
    Elsewhere(
        r"python -m benchmarks\.ray_executor", "15 s at its smallest, daemons", _RAY, "Fleet("
    ),
    Elsewhere(
        r"python -m benchmarks\.http_overhead",
        "14 s at its smallest",
        "tests/agents/test_endpoint.py",
        "FakeServer",
    ),
    Elsewhere(r"python -m benchmarks\.grpo_step", "20 s at its smallest"),
    Elsewhere(r"python -m benchmarks\.render_pool", "12 s at its smallest, it waits for a hang"),
    Elsewhere(r"python -m benchmarks\.evolve_cost", "a run in a process of its own, 15 s"),
    Elsewhere(
        r"python -m benchmarks\.diversity --large", "four minutes; without it, it is run here"
    ),
    # No commands: names of commands in prose.
    Elsewhere("mmzero (report|replay|eval|export)$", "a name in prose"),
)

BLOCKS = (
    Elsewhere("rewards: ", "run there", _DESIGNS, "test_the_examples_of_the_documentation_run"),
    Elsewhere("records: ", "run there", "tests/mmzero_env/test_record.py", "its_examples_run"),
    Elsewhere(
        "bench-hacks: ", "run there", "tests/benchmarks/hacks/test_page.py", "exec(compile(example"
    ),
    Elsewhere(
        "plug-in-a-model: .*(class Echo|openai:qwen3-vl|entry-points)",
        "run there",
        "tests/agents/test_plug_in.py",
        'block("python", "class Echo")',
    ),
    Elsewhere(
        "renderer: ", "two files, run by a test of this file", "tests/test_docs_run.py", "grey.py"
    ),
    Elsewhere("ray: ", "a Ray cluster", _RAY, "RayExecutor("),
    Elsewhere(
        "vllm: .*VllmProcess", "vLLM", "tests/agents/test_vllm_process.py", "with VllmProcess("
    ),
)
