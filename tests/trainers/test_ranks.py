"""Two processes that train are one process that trains."""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

import trainers
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES
from tests.trainers import ranked
from tests.trainers.two_ranks import on_two_ranks
from trainers import config, followers
from trainers.grpo_math import LOSS_TYPES
from trainers.ranks import ALONE, MainRankStopped, Ranks, join

CONFIGURATIONS = sorted((Path(trainers.__file__).parent / "accelerate").glob("*.yaml"))
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("full", {"loss_type": name}) for name in LOSS_TYPES),
    # Two updates a step, and more places in them than rows.
    ("full", {"updates_per_step": 2, "micro_batch": 1, "loss_type": "grpo"}),
    ("full", {"share_prompts": False, "old_logprobs": "recompute", "importance_cap": 2.0}),
    ("lora", {"stages": 2}),
    ("wild", {"delta": None}),
]
# Accelerate's own names for what its configuration files say.
ENGINE = {"ACCELERATE_TORCH_DEVICE": "cpu"}
FSDP2 = {
    **ENGINE,
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
RUN = {
    "threads": "1",
    "proposer.steps": "1",
    "proposer.prompts_per_step": "2",
    "coder.steps": "0",
    "solver.steps": "2",
    "solver.prompts_per_step": "4",
    "solver.pool": "16",
    "filters.easy_low": "0.0",
    "filters.hard_low": "0.0",
    "filters.hard_high": "1.0",
    "probe.items": "5",
    "probe.samples": "1",
}


def same_training(one: dict[str, Any], other: dict[str, Any], *, gradients: bool = True) -> None:
    for expected, found in zip(one["history"], other["history"], strict=True):
        assert found.updates == expected.updates and found.rows == expected.rows
        for name, value in vars(expected).items():
            if isinstance(value, float):
                close = pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True)
                assert (name, vars(found)[name]) == (name, close)
    if not gradients:
        return
    for wanted, got in zip(one["gradients"], other["gradients"], strict=True):
        assert wanted.keys() == got.keys()
        size = sum(float(grad.norm()) ** 2 for grad in wanted.values()) ** 0.5
        error = sum(float((wanted[n] - got[n]).norm()) ** 2 for n in wanted) ** 0.5
        # float32 sums in another order: 7e-7 with AVX-512, 3e-6 with AVX2, 4.4e-6 seen elsewhere. A
        # row that is lost, or weighed for the wrong rank, is an error of hundredths.
        assert not error > 1e-5 * size


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    # Adam's step has the size of the learning rate, 1e-3, however small the gradient: where that is
    # all rounding, a single weight may go its own way, but no more than a few.
    apart = [(weight - other["weights"][name]).flatten() for name, weight in one["weights"].items()]
    differs = torch.cat(apart)
    assert float(differs.abs().max()) < 1e-3 and float(differs.square().mean().sqrt()) < 1e-6


def test_gradients_weights_and_metrics_are_those_of_one_process() -> None:
    alone = [ranked.train(kind, **change) for kind, change in CASES]
    first, second = on_two_ranks(ranked.train_all, CASES)
    for (kind, _), one, main, other in zip(CASES, alone, first, second, strict=True):
        assert main["history"] == other["history"] or kind == "wild"
        assert main["weights"].keys() == other["weights"].keys()
        assert all(torch.equal(w, other["weights"][n]) for n, w in main["weights"].items())
        same_training(one, main)
        same_weights(one, main)
    skipped = [metrics.skipped for metrics in alone[-1]["history"]]
    assert skipped == [True, True, False]


def test_fsdp2_trains_as_one_process_does_and_the_main_rank_gets_the_weights() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [("full", {"stages": 2}), ("lora", {}), ("wild", {})]
    alone = [ranked.train(kind, **change) for kind, change in cases]
    first, second = on_two_ranks(ranked.train_all, cases, **FSDP2)
    for one, main, other in zip(alone, first, second, strict=True):
        same_training(one, main)
        same_training(one, other)
        same_weights(one, main)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not there")
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_deepspeed_trains_as_one_process_does(kind: str, stage: int, tmp_path: Path) -> None:
    settings = {
        "zero_optimization": {"stage": stage},
        **dict.fromkeys(
            (
                "gradient_accumulation_steps",
                "gradient_clipping",
                "train_batch_size",
                "train_micro_batch_size_per_gpu",
            ),
            "auto",
        ),
    }
    path = tmp_path / "deepspeed.json"
    path.write_text(json.dumps(settings))
    alone = ranked.train(kind, stages=2)
    found = on_two_ranks(
        ranked.train_all,
        [(kind, {"stages": 2})],
        **ENGINE,
        ACCELERATE_USE_DEEPSPEED="true",
        ACCELERATE_DEEPSPEED_CONFIG_FILE=str(path),
        DS_ACCELERATOR="cpu",
    )
    (main,), (other,) = found
    same_training(alone, main, gradients=False)
    same_training(alone, other, gradients=False)
    same_weights(alone, main)


def test_a_failure_of_the_main_rank_ends_all_with_its_reason() -> None:
    started = time.monotonic()
    first, second = on_two_ranks(ranked.fail_while_collecting)
    assert first == "EngineError: the power failed"
    assert second == ("MainRankStopped: the main rank stopped: EngineError: the power failed")
    assert time.monotonic() - started < 60


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def files(folder: Path) -> set[Path]:
    """What is in a run, but for TensorBoard's files, which are named by time and process."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if path.parts[0] != "tensorboard"}


def steady(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith("seconds")}
        for row in rows(folder)
    ]


def test_a_run_on_two_ranks_is_the_run_of_one_and_goes_on_when_it_was_stopped(
    tmp_path: Path,
) -> None:
    asked = [word for item in RUN.items() for word in ("--set", "=".join(item))]
    asked += ["--iterations", "1", "--quiet", "--out"]
    assert ranked.evolve([*asked, str(tmp_path / "one")]) == 0
    assert on_two_ranks(ranked.evolve, [*asked, str(tmp_path / "two")]) == [0, 0]
    one, two = tmp_path / "one", tmp_path / "two"
    assert len(rows(one)) == 3
    for expected, found in zip(steady(one), steady(two), strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-4, abs=1e-6)
            assert found[name] == value
    assert files(one) == files(two)

    killed = tmp_path / "killed"
    codes = on_two_ranks(ranked.evolve, [*asked, str(killed)], ("solver", 1))
    assert codes == [1, 1] and not (killed / "checkpoints/iter-1/solver").exists()
    assert on_two_ranks(ranked.evolve, ["--quiet", "--resume", str(killed)]) == [0, 0]
    assert steady(killed) == steady(two)
    for role in ROLES:
        weights = f"checkpoints/iter-1/{role}/model.safetensors"
        assert (killed / weights).read_bytes() == (two / weights).read_bytes()


def test_a_mistake_is_named_by_the_main_rank_alone(tmp_path: Path) -> None:
    assert on_two_ranks(ranked.evolve, ["--set", "stepz=3", "--out", str(tmp_path)]) == [2, 1]


def test_samplers_and_modes_that_ranks_cannot_have_are_refused() -> None:
    made = config.load("nano-cpu", {})
    two = Ranks(0, 2)
    followers.check(made, two)
    with pytest.raises(UserError, match="policy=local samples from whole weights.*policy=vllm"):
        followers.check(made, replace(two, engine="fsdp"))
    with pytest.raises(UserError, match="policy=vllm-engine .* expected policy=vllm"):
        followers.check(replace(made, lora_rank=8, policy="vllm-engine"), two)
    with pytest.raises(UserError, match="mode=simultaneous trains in one process"):
        followers.check(replace(made, mode="simultaneous"), two)
    followers.check(replace(made, mode="simultaneous"), ALONE)


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join() is ALONE and not torch.distributed.is_initialized()
    result = object()
    assert ALONE.share(lambda: result) is result
    with pytest.raises(EngineError) as error:
        followers.follow({}, ALONE)
    assert not isinstance(error.value, MainRankStopped)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configurations_are_accelerates(path: Path) -> None:
    loaded = load_config_from_file(str(path))
    assert isinstance(loaded, ClusterConfig)
    engine = {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}.get(path.stem, "DEEPSPEED")
    assert str(loaded.distributed_type).rpartition(".")[2] == engine
    assert loaded.num_processes == 8 and loaded.mixed_precision == "no"
    if path.stem.startswith("zero"):
        assert loaded.deepspeed_config["zero_stage"] == int(path.stem[-1])
        assert loaded.deepspeed_config["zero3_init_flag"] is False
    if path.stem == "fsdp2":
        assert loaded.fsdp_config["fsdp_version"] == 2


def test_there_is_a_configuration_for_every_engine() -> None:
    assert [path.stem for path in CONFIGURATIONS] == ["ddp", "fsdp2", "zero2", "zero3"]
