import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.protocol import Completion, Request, Response
from trainers import config
from trainers.players import Players
from trainers.reader import SplitSolver

READ_BY_BASE = {"reward_design": "cycle_consistent", "caption_reader": "base"}
IMAGE = np.zeros((2, 2, 3), np.uint8)


class Named:
    def __init__(self, name):
        self.name, self.asked = name, []

    def generate(self, requests):
        self.asked.append([request.id for request in requests])
        return [Response(r.id, (Completion(self.name),) * r.n) for r in requests]


def request(name, image=None):
    return Request(name, "solver", "?", n=2, image=image)


def test_questions_without_a_picture_go_to_the_reader():
    solver, reader = Named("solver"), Named("base")
    split = SplitSolver(solver, reader)
    asked = [request("a", IMAGE), request("b"), request("c"), request("d", IMAGE)]
    found = split.generate(asked)
    assert [(r.request_id, r.completions[0].text) for r in found] == [
        ("a", "solver"), ("b", "base"), ("c", "base"), ("d", "solver"),
    ]  # fmt: skip
    assert (solver.asked, reader.asked) == ([["a", "d"]], [["b", "c"]])
    split.generate(asked[:1])
    assert len(reader.asked) == 1


def test_only_training_has_a_reader_and_the_measurement_has_none():
    learners = {role: Named(role) for role in ("proposer", "coder", "solver")}
    plain = Players(learners)
    assert plain.playing == plain.policies == learners
    players = Players(learners, Named("base"))
    assert players.policies["solver"] is learners["solver"]
    (answer,) = players.playing["solver"].generate([request("a")])
    assert answer.completions[0].text == "base"
    assert players.playing["coder"] is learners["coder"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption_reader": "bass"}, "caption_reader 'bass'.*'base'"),
        ({"caption_reader": "base"}, "nothing to read.*mm_zero.*cycle_consistent"),
        ({**READ_BY_BASE, "policy": "vllm"}, "still has the base.*policy=vllm with lora_rank=0"),
        ({**READ_BY_BASE, "policy": "vllm-engine", "lora_rank": "8"}, "expected policy=local, or"),
        (
            {**READ_BY_BASE, "policy": "vllm", "lora_rank": "8", "executor": "ray"},
            "executor=local, got ray",
        ),
        (
            {
                "labels": "online",
                "reward_design": "cycle_consistent",
                "reward.label_source": "truth",
            },
            "the truth does not change",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        config.load("nano-cpu", changes)


def test_the_base_reads_captions_as_it_was(tmp_path):
    import agents
    from trainers.learners import make_learners, make_reader

    made = config.load("nano-cpu", {**READ_BY_BASE, "out": str(tmp_path), "device": "cpu"})
    learners = make_learners(made, {})
    reader = make_reader(made, learners)
    for weights in learners["solver"].model.parameters():
        weights.data.zero_()
    asked = [Request("a", "solver", "How many?", n=2, seed=3)]
    base = agents.make("nano").generate(asked)
    playing = Players(learners, reader).playing["solver"].generate(asked)
    assert [c.text for c in playing[0].completions] == [c.text for c in base[0].completions]
    assert not any(weights.requires_grad for weights in reader.model.parameters())
    assert make_reader(config.load("nano-cpu", {"out": str(tmp_path)}), learners) is None


@pytest.mark.parametrize("shared", ["false", "true"])
def test_the_base_under_adapters_reads_without_them(tmp_path, shared):
    import agents
    from trainers.learners import make_learners, make_reader

    changes = {**READ_BY_BASE, "lora_rank": "4", "shared_weights": shared, "out": str(tmp_path)}
    made = config.load("nano-cpu", changes)
    learners = make_learners(made, {})
    for name, weights in learners["solver"].model.named_parameters():
        if "lora_B" in name:
            weights.data += 0.2
    playing = Players(learners, make_reader(made, learners)).playing["solver"]
    asked = [Request("a", "solver", "How many?", n=4, seed=3)]
    base, read, trained = (
        [completion.text for completion in policy.generate(asked)[0].completions]
        for policy in (agents.make("nano"), playing, learners["solver"])
    )
    assert read == base != trained
    # Whoever is trained next finds its adapter switched on again.
    assert [c.text for c in learners["solver"].generate(asked)[0].completions] == trained
