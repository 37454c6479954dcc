"""Pre-training of the nano model: data, packing, optimizer, and the one command."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from agents.encoding import PromptEncoder
from agents.nano import architecture, curriculum, demonstrations, pretrain, tokenizer
from agents.nano.muon import Muon
from agents.nano.packing import Example, Packer
from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.parsing import extract_boxed, extract_svg, parse_proposal
from mmzero_env.protocol import Failure, Proposal, RenderJob, Request
from mmzero_env.rendering import Renderer
from mmzero_env.world.split import held_out


@pytest.fixture(scope="module")
def tok():
    return tokenizer.build(specs=800)


def test_texts_of_every_role_survive_the_tokenizer(tok):
    rng = random.Random(0)
    for _ in range(100):
        spec = world.sample_spec(rng)
        question = spec.ask("hard", rng)
        for text in (
            spec.svg(),
            world.proposal_text(spec, rng),
            demonstrations.solution(spec, question, rng, 0.3),
            "Unicode survives too: äß 漢字 \u200b <|nothing|>",
        ):
            assert tok.decode(tok(text).input_ids) == text


def test_a_colour_is_one_token_wherever_a_sentence_names_it(tok):
    red = tok(" red").input_ids
    assert len(red) == 1
    for text in ("Bar chart: red 5.", "What is the value of the red bar?", "so red 5"):
        assert red[0] in tok(text).input_ids


def test_packed_prompts_are_the_chat_template_s_prompts(tok):
    encoder = PromptEncoder(
        tok,
        image_processor=architecture.image_processor(),
        image_token_id=tok.convert_tokens_to_ids("<|image_pad|>"),
    )
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    packer = Packer(tok)
    example = Example("What shape is at A1?\nThink.", "answer", 0)
    pixels = torch.zeros(36, 1536)
    batch = packer.pack([[example]], [example], pixels)
    target = len(tok("answer<|im_end|>").input_ids)
    for row, picture in ((0, image), (1, None)):
        request = Request("r", "solver", example.prompt, image=picture)
        wanted = list(encoder.encode(request).prompt_ids)
        packed = batch.input_ids[row].tolist()
        assert packed[: len(wanted)] == wanted
        assert (batch.task[row] >= 0).sum() == target


def test_packing_changes_no_loss(tok):
    model = architecture.initial_model(tok, 0).eval()
    packer = Packer(tok)
    rng = np.random.default_rng(0)
    pixels = torch.tensor(rng.normal(size=(2, 36, 1536)), dtype=torch.float32)
    asked = [
        [Example("Describe the picture.", "Bar chart: red 5.", 0), Example("Why?", "so red 5", 1)],
        [Example("Which bar?", "red", 2)],
    ]
    told = [Example("Say red.", "red", 3), Example("Say more than that.", "red and blue 7", 4)]
    packed = pretrain.losses(model, packer.pack(asked, told, pixels.reshape(72, 1536)))
    for number, examples in enumerate(asked):
        for example in examples:
            alone = pretrain.losses(model, packer.pack([[example]], [], pixels[number]))
            assert torch.allclose(alone[example.task], packed[example.task], atol=1e-5)
    for example in told:
        alone = packer.pack([], [example], pixels[:0].reshape(0, 1536))
        # A text-only row must come out as transformers itself places it.
        ids = alone.input_ids
        logits = model(input_ids=ids).logits[0, :-1]
        mask = alone.task[0, 1:] >= 0
        plain = torch.nn.functional.cross_entropy(logits[mask], ids[0, 1:][mask])
        assert torch.allclose(plain, packed[example.task], atol=1e-5)


def test_picture_positions_are_those_of_the_model(tok):
    model = architecture.initial_model(tok, 0)
    batch = Packer(tok).pack([[Example("Why?", "so", 0)]], [], torch.zeros(36, 1536))
    types = (batch.input_ids == model.config.image_token_id).int()
    position, _ = model.model.get_rope_index(
        batch.input_ids,
        image_grid_thw=batch.image_grid_thw,
        attention_mask=torch.ones_like(batch.input_ids),
        mm_token_type_ids=types,
    )
    assert torch.equal(position, batch.position_ids)


def test_demonstrators_err_at_random_and_rarely_enough_for_a_vote():
    rng = random.Random(0)
    answers: Counter[str] = Counter()
    spec = world.parse_caption("Bar chart: red 5, blue 7, green 2.")
    assert spec is not None
    question = "What is the sum of the red and blue bars?"
    for _ in range(400):
        text = demonstrations.solution(spec, question, rng, demonstrations.NOISY.hard)
        answers[extract_boxed(text) or ""] += 1
    (winner, count), (_, second) = answers.most_common(2)
    assert winner == "12"
    assert 0.3 < count / 400 < 0.7 and count > 2 * second
    with pytest.raises(UserError, match="applies"):
        demonstrations.solution(spec, "Why?", rng, 0.3)


def test_broken_code_does_not_render_and_broken_tags_do_not_parse():
    rng = random.Random(0)
    failed = []
    with Renderer(size=world.SIDE, workers=0) as renderer:
        for _ in range(60):
            code = extract_svg(demonstrations.broken(world.sample_spec(rng).svg(), rng))
            failed.append(code is None or not renderer.render([RenderJob("x", code)])[0].ok)
    assert np.mean(failed) > 0.95
    always = demonstrations.Noise(tag=1.0)
    for _ in range(60):
        text = demonstrations.proposal(world.sample_spec(rng), rng, always)
        assert isinstance(parse_proposal(text), Failure)


def test_a_noisy_proposer_s_own_answers_are_wrong_as_often_as_asked():
    rng = random.Random(0)
    wrong = 0
    for _ in range(400):
        spec = world.sample_spec(rng)
        noise = demonstrations.Noise(own_answer=0.5)
        proposal = parse_proposal(demonstrations.proposal(spec, rng, noise))
        assert isinstance(proposal, Proposal)
        wrong += world.answer(spec, proposal.easy_question) != proposal.easy_answer
    assert 0.42 < wrong / 400 < 0.58


def test_muon_orthogonalises_the_update():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 48))
    weight.grad = torch.randn(16, 48)
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    scale = 0.2 * 48**0.5
    singular = torch.linalg.svdvals(weight.detach()) / scale
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_batches_depend_on_seed_and_step_alone_and_never_show_the_probe(tok):
    settings = curriculum.Settings(steps=10, pool=20)
    rng = random.Random(0)
    specs = [curriculum.training_spec(rng) for _ in range(20)]
    pool = np.zeros((20, 96, 96, 3), dtype=np.uint8)
    first, again = (
        curriculum.Curriculum(settings, Packer(tok), specs, pool).batch(7) for _ in range(2)
    )
    assert torch.equal(first.input_ids, again.input_ids)
    shown = [
        spec
        for ids in first.input_ids
        for caption in re.findall(
            r"(?:Bar chart|Grid|Table|Timeline|Diagram): [^.<]+\.", tok.decode(ids)
        )
        if (spec := world.parse_caption(caption)) is not None
    ]
    assert len(shown) > 20
    assert not any(held_out(spec) for spec in shown)


def test_the_command_trains_resumes_and_writes_a_model_folder(tmp_path):
    command = [
        sys.executable, "-m", "agents.nano.pretrain",
        "--out", str(tmp_path), "--steps", "2", "--pool", "30", "--probe-items", "5",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert "resumed at step 2" in again.stdout
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == first
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "tokenizer.json", "preprocessor_config.json", "README.md"} <= names
