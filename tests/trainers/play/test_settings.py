from __future__ import annotations

from dataclasses import replace

import pytest

from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import TOPICS
from mmzero_env.rewards import get_design
from trainers import agent_folders
from trainers import config as configs
from trainers.play.settings import HUMAN, described, settle


def players(proposer="nano", coder="nano", solver="nano"):
    return {"proposer": proposer, "coder": coder, "solver": solver}


def test_nano_is_asked_as_it_was_trained():
    settings = settle(players())
    assert get_prompts(settings.config.prompts).name == "nano"
    assert settings.image_size == 96
    assert settings.config.sampling["proposer"].max_tokens == 96
    assert (settings.config.codes, settings.config.answers) == (2, 5)


def test_a_person_is_asked_once_unless_told_otherwise():
    settings = settle(players(coder=HUMAN, solver=HUMAN))
    assert (settings.config.codes, settings.config.answers) == (1, 1)
    settings = settle(players(coder=HUMAN, solver=HUMAN), codes=3, answers=2)
    assert (settings.config.codes, settings.config.answers) == (3, 2)


def test_a_person_who_solves_sees_a_large_picture_of_what_nano_draws():
    assert settle(players(solver=HUMAN)).image_size == 448
    assert settle(players(solver=HUMAN), image_size=64).image_size == 64


def test_each_agent_gets_the_prompts_it_is_used_to():
    prompts = get_prompts(settle(players(solver="openai:m@http://127.0.0.1:1")).config.prompts)
    nano, usual = get_prompts("nano"), get_prompts("mm_zero")
    assert prompts.proposer("map") == nano.proposer("map")
    assert prompts.solver("why?") == usual.solver("why?")
    assert prompts.name == "nano/nano/mm_zero"
    settings = settle(players(solver="openai:m@http://127.0.0.1:1"), prompts="mm_zero")
    assert get_prompts(settings.config.prompts).name == "mm_zero"


def test_scripts_and_people_take_the_prompts_of_the_others():
    prompts = settle(players(proposer="scripted:oracle", solver=HUMAN)).config.prompts
    assert get_prompts(prompts).name == "nano"
    prompts = settle(players(*["scripted:oracle"] * 3)).config.prompts
    assert get_prompts(prompts).name == "mm_zero"


def test_models_of_a_run_are_asked_as_the_run_asked_them(tmp_path):
    run = tmp_path / "run"
    config = configs.load("nano-cpu", {"image_size": "128", "solver.temperature": "0.3"})
    configs.save(replace(config, out=str(run)), run)
    folder = run / "checkpoints" / "iter-2"
    for role in ("proposer", "coder", "solver"):
        (folder / role).mkdir(parents=True)
    settings = settle(players(*[str(folder)] * 3))
    assert settings.specs["coder"] == f"transformers:{folder / 'coder'}"
    assert settings.image_size == 128
    assert settings.config.sampling["solver"].temperature == 0.3
    assert agent_folders.run_of(str(folder / "solver")) == run.resolve()
    assert agent_folders.run_of(f"transformers:{folder / 'solver'}?device=cpu") == run.resolve()
    assert agent_folders.run_of(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"players": players(coder="nanoo")}, "--coder: unknown agent 'nanoo'.*human.*openai"),
        ({"topic": "maps"}, "unknown topic 'maps'.*basic shape"),
        ({"design": "mm_zer"}, "unknown reward design.*mm_zero_official"),
        ({"prompts": "nan"}, "unknown prompt set.*nano"),
        ({"codes": 0}, "codes must be a whole number of at least 1"),
        ({"seed": 2**63}, "--seed must fit into 64 bits"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(options, expected):
    with pytest.raises(UserError, match=expected):
        settle(options.pop("players", players()), **options)


def test_a_design_from_a_file_is_its_base_with_changes_so_that_a_replay_knows_it(tmp_path):
    path = tmp_path / "bold.toml"
    path.write_text('base = "r_zero"\n[constants]\nsolvability_cap = 0.7\n')
    settings = settle(players(), design=str(path))
    assert settings.design == get_design("r_zero", solvability_cap=0.7)
    assert str(path) in described(settings)


def test_designs_that_label_by_the_caption_get_answers_from_it():
    assert settle(players(), design="caption_grounded").config.caption_answers == 5
    assert settle(players()).config.caption_answers == 0


def test_topics_follow_the_seed_unless_one_is_chosen():
    settings = settle(players(), seed=9)
    assert [settings.topic_of(s) for s in (0, 9, -1)] == [TOPICS[0], TOPICS[1], TOPICS[-1]]
    assert settle(players(), topic=TOPICS[3]).topic_of(0) == TOPICS[3]


def test_answers_are_secret_from_a_person_who_only_solves():
    assert settle(players(solver=HUMAN)).secret
    assert not settle(players(coder=HUMAN, solver=HUMAN)).secret
    assert not settle(players()).secret
