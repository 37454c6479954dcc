from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.downstream.models import Subject, answering, read
from mmzero_env.errors import EngineError, UserError
from tests.fake_endpoint import fake_endpoint
from trainers import config


def test_a_run_knows_its_base_and_its_prompts(tmp_path: Path) -> None:
    loaded = config.load("nano-cpu", {"out": str(tmp_path)})
    config.save(loaded, tmp_path)
    folder = tmp_path / "checkpoints" / "iter-2"
    (folder / "solver").mkdir(parents=True)
    asked = read(str(folder), None, no_base=False, prompts=None)
    assert asked.subjects == (
        Subject("model", f"transformers:{folder / 'solver'}"),
        Subject("base", loaded.model),
    )
    assert asked.prompts == loaded.prompts == "nano"
    asked = read(str(folder), "openai:b@http://127.0.0.1:1", no_base=False, prompts="mm_zero")
    assert asked.subjects[1].spec.startswith("openai:") and asked.prompts == "mm_zero"


def test_without_a_known_base_one_has_to_say_what_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--base MODEL.*--no-base"):
        read("nano", None, no_base=False, prompts=None)
    with pytest.raises(UserError, match="exclude each other"):
        read("nano", "nano", no_base=True, prompts=None)
    alone = read(str(tmp_path), None, no_base=True, prompts=None)
    assert alone.subjects == (Subject("model", f"transformers:{tmp_path}"),)
    assert alone.prompts == "mm_zero"
    assert read("nano", None, no_base=True, prompts=None).prompts == "nano"


def test_a_given_server_is_used_as_it_is() -> None:
    with fake_endpoint(lambda _: "x") as fake:
        with answering(Subject("model", f"openai:fake@{fake.url}")) as endpoint:
            assert (endpoint.url, endpoint.model) == (f"{fake.url}/v1", "fake")
            assert endpoint.local and endpoint.ours is None and endpoint.key_env == "OPENAI_API_KEY"
        with answering(Subject("base", f"vllm:some/folder@{fake.url}")) as endpoint:
            assert endpoint.model == "fake" and endpoint.key == "none"
        with pytest.raises(UserError, match="serves fake, not 'other'"):
            with answering(Subject("model", f"openai:other@{fake.url}")):
                pass
        fake.down = True
        with pytest.raises(EngineError, match="does not answer"):
            with answering(Subject("model", f"openai:fake@{fake.url}")):
                pass


def test_the_key_is_that_of_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "secret")
    with fake_endpoint(lambda _: "x") as fake:
        spec = f"openai:fake@{fake.url}?api_key_env=OTHER_KEY"
        with answering(Subject("model", spec)) as endpoint:
            assert endpoint.key == "secret" and "secret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai:m@http://127.0.0.1:1?n=1", "only api_key_env holds"),
        ("vllm:m@http://127.0.0.1:1,http://127.0.0.1:2", "expected one server"),
        ("openai:m@ftp://x", "http or https"),
    ],
)
def test_options_that_lmms_eval_would_not_follow_are_refused(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        with answering(Subject("model", spec)):
            pass
