"""Plans: what fits, what does not, and what would."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mmzero_env.errors import UserError
from trainers import cli, config, plan
from trainers.model_shapes import adapter_parameters, build, known, shape_of, with_adapter
from trainers.plan_activations import Way, decoder_cost, tower_cost
from trainers.plan_layout import GB, Hardware, Layout
from trainers.plan_memory import engine_memory, state_bytes, trainer_memory, training
from trainers.plan_prompts import Guesses, PromptTokens
from trainers.plan_work import Work, stages

ONE_GPU = [name for name in config.presets() if name.endswith("-1x80gb")]
PLAIN = plan.Assumptions()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = cli.main(["plan", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_fits_the_machine_of_its_name(preset, capsys):
    code, made = run(capsys, "--preset", preset)
    assert code == 0 and made["fits"] and made["suggestion"] is None
    for part in made["memory"]:
        assert part["total"] == sum(part["parts"].values()) <= part["room"]
    assert made["work"]["iteration"]["optimizer_steps"] > 0
    assert made["seconds"]["solver"]["training"] > 0


@pytest.mark.parametrize("preset", ONE_GPU)
def test_what_is_suggested_for_a_smaller_gpu_passes(preset, capsys):
    small = ("--preset", preset, "--gpu-memory", "70")
    code, refused = run(capsys, *small, "--set", "serve.gpu_memory=0.8")
    assert code == 1 and not refused["fits"]
    wanted = {"serve.gpu_memory": "0.8", **refused["suggestion"]["settings"]}
    words = [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]
    code, made = run(capsys, *small, "--gpus", str(refused["suggestion"]["gpus"]), *words)
    assert code == 0 and made["fits"]


def test_too_small_for_the_weights_needs_more_gpus_or_nothing_helps(capsys):
    code, made = run(capsys, "--preset", "qwen3vl-8b-1x80gb", "--gpu-memory", "32")
    assert code == 1 and made["suggestion"]["gpus"] > 1
    code, made = run(capsys, "--preset", "qwen3vl-8b-1x80gb", "--gpu-memory", "10")
    assert code == 1 and made["suggestion"] is None


def test_the_answer_for_people_names_parts_assumptions_and_the_mend(capsys):
    assert cli.main(["plan", "--preset", "qwen3vl-4b-1x80gb", "--gpu-memory", "34"]) == 1
    shown = capsys.readouterr().out
    for words in (
        "4,437,815,808 parameters",
        "trainer: base weights",
        "engine: key-value cache",
        "optimizer steps",
        "--mfu 0.35",
        "It does not fit",
        "Nearest that fits: --set",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "qwen3vl-9b"], "unknown preset 'qwen3vl-9b'. Did you mean"),
        (["--gpus", "0"], "--gpus must be at least 1, got 0"),
        (["--gpus", "-2"], "--gpus must be at least 1, got -2"),
        (["--gpu-memory", "0"], "--gpu-memory must be above 0, got 0"),
        (["--mfu", "0"], "--mfu must be above 0, got 0"),
        (["--set", "solver.micro_batches=1"], "Did you mean 'solver.micro_batch'"),
        (["--set", "model=scripted:oracle"], "which vLLM cannot serve"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(words, message, capsys):
    assert cli.main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_configuration_is_named(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="config.json is damaged"):
        shape_of(f"transformers:{tmp_path}")


def test_the_shipped_shapes_have_the_parameters_of_the_releases():
    sizes = {name: shape_of(f"transformers:{name}").parameters for name in known()}
    assert sizes["Qwen/Qwen3-VL-4B-Instruct"] == 4_437_815_808
    assert sizes["Qwen/Qwen3-VL-8B-Instruct"] == 8_767_123_696
    assert round(sizes["XiaomiMiMo/MiMo-VL-7B-SFT"], -7) == 8_310_000_000
    models = {config.load(name, {}).model for name in config.presets()} - {"nano"}
    assert models == {f"transformers:{name}" for name in known()}


@pytest.mark.parametrize("vision", [False, True])
def test_adapter_parameters_are_those_of_all_layers(vision):
    shape = shape_of("nano")
    with torch.device("meta"):
        whole = with_adapter(build(shape.config), 8, vision=vision)
    trained = sum(p.numel() for p in whole.parameters() if p.requires_grad)
    assert adapter_parameters(shape, 8, vision) == trained


def test_adapters_on_the_vision_tower_keep_its_activations():
    shape = shape_of("nano")
    frozen, adapted = (tower_cost(shape, Way(rank=8, vision=vision)) for vision in (False, True))
    assert frozen.kept.of(4096, shape.vision_depth) == 0
    assert adapted.kept.of(4096, shape.vision_depth) > 4096 * shape.patch_values


def test_activations_grow_with_tokens_and_shrink_with_checkpointing():
    shape = shape_of("transformers:Qwen/Qwen3-VL-8B-Instruct")
    plain, again = (decoder_cost(shape, Way(checkpointing=c)) for c in (False, True))
    one, two = (plain.kept.of(tokens, shape.layers) for tokens in (4096, 8192))
    assert two == pytest.approx(2 * one, rel=1e-3)
    # What is kept is little more than the input of each layer, in bfloat16.
    inputs = 8192 * shape.hidden * 2 * shape.layers
    assert inputs < again.kept.of(8192, shape.layers) < 1.2 * inputs
    assert again.peak.of(8192, shape.layers) < 0.1 * two


def test_full_fine_tuning_takes_sixteen_bytes_a_parameter_in_pieces():
    loaded = config.load("qwen3vl-8b-8x80gb-full", {})
    shape, how = shape_of(loaded.model), training(loaded)
    parts = state_bytes(loaded, shape, how, pieces=5)
    own = sum(parts.values()) - parts["reference"]
    assert own == pytest.approx(16 * shape.parameters / 5, rel=1e-6)


def test_a_reader_of_its_own_is_a_second_model_unless_roles_are_adapters():
    changes = {"reward_design": "cycle_consistent", "caption_reader": "base"}
    loaded = config.load("nano-cpu", changes)
    shape, layout = shape_of("nano"), Layout.of(loaded, Hardware(1))
    prompts = PromptTokens.of(loaded, shape, PLAIN.guesses)
    parts = trainer_memory(loaded, shape, layout, prompts)
    assert parts["caption reader"] == 2 * shape.parameters
    adapters = config.load("nano-cpu", {**changes, "lora_rank": "8"})
    assert "caption reader" not in trainer_memory(adapters, shape, layout, prompts)


def test_engines_get_their_gpus_and_the_trainer_the_others():
    loaded = config.load("qwen3vl-4b-1x80gb", {"serve.servers": "2"})
    assert Layout.of(loaded, Hardware(8)) == Layout(6, 2, shared=False, sharded=False)
    assert Layout.of(loaded, Hardware(2)) == Layout(2, 2, shared=True, sharded=False)
    assert Hardware.of("x-8x40gb-full", None, None) == Hardware(8, 40 * GB)
    assert Hardware.of("x-8x40gb-full", 2, 24.0) == Hardware(2, 24 * GB)


def test_an_engine_that_vllm_would_not_start_is_refused():
    loaded = config.load("qwen3vl-4b-1x80gb", {})
    shape, room = shape_of(loaded.model), 80 * GB

    def problem(**settings) -> str:
        changed = replace(loaded, serve=replace(loaded.serve, **settings))
        return engine_memory(changed, shape, room, 8000, PLAIN.reserves).problem

    assert problem() == ""
    assert "before its cache" in problem(gpu_memory=0.1)
    assert "less than one row" in problem(gpu_memory=0.17)
    assert "max_model_len is 4,096" in problem(max_model_len=4096)


def test_the_work_of_the_reference_is_counted():
    # Reference: 72 proposals, 288 codes, 2,880 answers a step; 81,920 rollouts in the Solver's.
    loaded = config.load("qwen3vl-8b-1x80gb", {})
    perfect = Guesses(parsed=1, rendered=1, kept=1)
    prompts = PromptTokens.of(loaded, shape_of(loaded.model), perfect)
    work = stages(loaded, prompts)
    assert work["proposer"].completions == 20 * (72 + 288 + 2880)
    assert work["proposer"].pictures == 20 * 288
    assert work["solver"].rows == 81_920
    assert [work[r].optimizer_steps for r in ("proposer", "coder", "solver")] == [20, 100, 160]
    # 1,280 codes and up to 12,800 answers a step, after a pool of 3,304 with 4 codes each.
    assert work["coder"].completions == 20 * (1280 + 12_800) + 3304 * 5


def test_answers_without_the_picture_are_counted_for_designs_that_ask_for_them():
    settings = {"solver.answers": "10"}

    def counted(design: str, **more: str) -> dict[str, Work]:
        loaded = config.load("qwen3vl-8b-1x80gb", {**settings, "reward_design": design, **more})
        perfect = Guesses(parsed=1, rendered=1, kept=1)
        return stages(loaded, PromptTokens.of(loaded, shape_of(loaded.model), perfect))

    plain, grounded, audited = map(counted, ("mm_zero", "caption_grounded", "audited"))
    # Once a proposal: 72 a step, 320 a step of the Coder, the pool of the Solver.
    loaded = config.load("qwen3vl-8b-1x80gb", settings)
    episodes = {
        "proposer": 20 * 72,
        "coder": 20 * loaded.coder.prompts_per_step,
        "solver": loaded.solver.pool,
    }
    for role, answers in (("proposer", 5), ("coder", 5), ("solver", 10)):
        count = episodes[role]
        assert grounded[role].completions - plain[role].completions == 2 * answers * count
        assert audited[role].completions - grounded[role].completions == answers * count
        assert audited[role].requests - plain[role].requests == 3 * count
        # A question alone is short: no picture, no caption.
        blind = audited[role].prompt_tokens - grounded[role].prompt_tokens
        told = grounded[role].prompt_tokens - plain[role].prompt_tokens
        assert 0 < blind < 200 * count and told > 2 * 350 * count
        assert audited[role].pictures == plain[role].pictures
    assert audited["probe"] == plain["probe"]
    online = counted("audited", labels="online")["solver"]
    rows = loaded.solver.steps * loaded.solver.prompts_per_step
    assert online.completions - audited["solver"].completions == 10 * rows


def test_a_model_that_is_not_here_stops_evolve_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "run"
    chosen = ["evolve", "--preset", "qwen3vl-4b-1x80gb", "--out", str(out)]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli.main([*chosen, "--quiet"]) == 2
    assert "Qwen/Qwen3-VL-4B-Instruct could not be loaded" in capsys.readouterr().err
    assert not out.exists()
