"""The real lmms-eval 0.7.3 in .venv-eval, offline: `make test-eval`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agents
from agents.probe import Probe
from benchmarks.downstream import harness
from benchmarks.downstream.evaluation import Evaluation, Settings, look
from benchmarks.downstream.harness import Harness
from benchmarks.downstream.models import Subject
from benchmarks.downstream.sets import SETS, SUITES
from mmzero_env.errors import EngineError, UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from mmzero_env.world.probe import probe_items
from tests.fake_endpoint import fake_endpoint
from tests.lmms_eval import local_sets
from trainers import cli

pytestmark = pytest.mark.lmms_eval

NANO = Subject("model", "nano")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Not the user's: made-up sets do not belong there, and what is there must not help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.delenv("HF_DATASETS_CACHE", raising=False)
        yield


@pytest.fixture(scope="module")
def running(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    log = tmp_path_factory.mktemp("harness") / "log"
    with Harness(harness.find(None), log, offline=True) as process:
        yield process


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return local_sets.write(tmp_path_factory.mktemp("copies"))


def test_greedy_answers_through_lmms_eval_are_those_of_our_own_probe_item_by_item(
    running: Harness, tmp_path: Path
) -> None:
    settings = Settings("nano", 1, 0.0, 1.0, 160, 80, 0)
    looked = look(running, [SETS["mmzero-probe"]], settings, data=None, out=tmp_path)
    evaluation = Evaluation(tmp_path, [NANO], settings, (True, False), running.versions)
    evaluation.run(running, looked, concurrency=64)
    with Renderer(size=SIDE) as renderer:
        probe = Probe(probe_items(40, 0), get_prompts("nano"), renderer, samples=1)
        ours = probe.solver(agents.make("nano"))
    for shown, metric in ((True, "greedy"), (False, "blind")):
        _, graded = evaluation.graded(looked[0], "model", shown)
        theirs = np.array(graded.scores(1))
        assert graded.items == tuple(range(80))
        assert theirs[0::2].tolist() == ours[f"solver_easy_{metric}"].tolist()
        assert theirs[1::2].tolist() == ours[f"solver_hard_{metric}"].tolist()
        own = evaluation.own(looked[0], "model", shown)
        assert own == pytest.approx(theirs.mean(), abs=1e-12)
    with_pictures = evaluation.graded(looked[0], "model", True)[1].scores(1)
    assert np.mean(with_pictures) > 0.9 > 0.5 > theirs.mean()


def test_the_command_compares_two_models_on_the_same_items_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    line = ["eval", "nano", "--base", "nano", "--suite", "mmzero-probe", "--items", "12"]
    assert cli.main([*line, "--out", str(out)]) == 0
    result = json.loads((out / "eval.json").read_text())
    assert result["settings"]["samples"] == 8 and result["settings"]["items"] == 12
    assert result["command"].startswith("mmzero eval nano --base nano")
    assert result["lmms_eval"]["lmms_eval"] == harness.HARNESS_VERSION
    assert result["seeds"] == [0] and len(result["revision"]) >= 12
    shown, hidden = result["sets"]
    # The same weights asked with the same seeds give the same answers, in other batches, too.
    assert shown["rules"]["model"] == shown["rules"]["base"]
    assert shown["change"]["pass@1"] == {"mean": 0.0, "low": -0.25, "high": 0.25, "n": 12}
    assert 0 < shown["rules"]["model"]["pass@1"]["mean"] < 1
    assert shown["rules"]["model"]["pass@8"]["mean"] >= shown["rules"]["model"]["pass@1"]["mean"]
    assert hidden["rules"]["model"]["pass@1"]["mean"] < shown["rules"]["model"]["pass@1"]["mean"]
    # Samples of an item differ: every one has a seed of its own.
    answers = sorted((out / "answers/model/mmzero-probe/with-pictures").iterdir())
    texts = [json.loads(text)["texts"] for path in answers for text in path.open()]
    assert any(len(set(each)) > 1 for each in texts)
    assert "pass@8" in capsys.readouterr().out
    # Everything is done: nothing is asked again, and the result is the same.
    monkeypatch.setattr(agents, "make", lambda *_: pytest.fail("a model was made again"))
    assert cli.main([*line, "--out", str(out)]) == 0
    assert json.loads((out / "eval.json").read_text())["sets"] == result["sets"]


def test_every_set_of_the_paper_runs_from_a_local_copy(
    running: Harness, copies: Path, tmp_path: Path
) -> None:
    settings = Settings("mm_zero", 1, 0.6, 0.95, 4096, None, 5)
    seen: dict[str, int] = {}

    def answer(text: str) -> str:
        """The right box for the first item of a set, with and without pictures."""
        name = next((name for name in SETS if f"{name} 0:" in text), "")
        if "multiple-choice question in the picture" in text:
            # Both items are asked in the same words; their right answers differ.
            name = "mmmu-pro-vision"
        seen[name] = seen.get(name, 0) + 1
        return f"<think>\\boxed{{9}}</think>\\boxed{{{local_sets.RIGHT.get(name, 'grey')}}}"

    chosen = [SETS[name] for name in SUITES["paper"]]
    looked = look(running, chosen, settings, data=copies, out=tmp_path)
    assert [each.items for each in looked] == [2] * 12
    with fake_endpoint(answer) as fake:
        subject = Subject("model", f"openai:fake@{fake.url}")
        evaluation = Evaluation(tmp_path, [subject], settings, (True, False), running.versions)
        evaluation.run(running, looked, concurrency=4)
        bodies, texts = fake.bodies, fake.texts()
    for each in looked:
        name = each.each.name
        for shown in (True, False):
            items, graded = evaluation.graded(each, "model", shown)
            assert graded.scores(1) == [1.0, 0.0], name
            # In the vision form lmms-eval takes nothing but the bare letter.
            own = 0.0 if name == "mmmu-pro-vision" else 0.5 if each.each.own else None
            assert evaluation.own(each, "model", shown) == own, name
            assert len(items) == 2
    by_set = {
        name: [b for b, t in zip(bodies, texts, strict=True) if f"{name} 0:" in t] for name in SETS
    }
    for name, (first, second) in {n: b for n, b in by_set.items() if b}.items():
        pictures = 2 if name in local_sets.SEVERAL else 1
        assert sorted(_kinds(first) + _kinds(second)) == ["image_url"] * pictures + ["text"] * 2
    body = by_set["chartqa"][0]
    assert {"max_tokens": 4096, "temperature": 0.6, "top_p": 0.95}.items() <= body.items()
    assert body["seed"] != by_set["mmmu"][0]["seed"]
    text = next(text for text in texts if "mmmu 0:" in text)
    assert "B. blue\n" in text and "<think>" in text and "\\boxed{}" in text
    hidden = [text for text in texts if "multiple-choice question in the picture" in text]
    assert hidden and not any("blue" in text for text in hidden)
    assert any("(Unit: cm) (Decimal places: 1)" in text for text in texts)
    judged = evaluation.graded(next(e for e in looked if e.each.name == "mathverse"), "model", True)
    assert judged[0][0].question.startswith("mathverse 0 in full")


def _kinds(body: dict[str, Any]) -> list[str]:
    return [part["type"] for part in body["messages"][0]["content"]]


def test_what_has_no_answer_stays_in_the_denominator_and_a_dead_server_stops_it(
    running: Harness, copies: Path, tmp_path: Path
) -> None:
    settings = Settings("mm_zero", 2, 0.6, 0.95, 64, None, 0)
    looked = look(running, [SETS["chartqa"], SETS["mmmu"]], settings, data=copies, out=tmp_path)
    with fake_endpoint(lambda text: None if "0:" in text else 422) as fake:
        subject = Subject("model", f"openai:fake@{fake.url}")
        evaluation = Evaluation(tmp_path, [subject], settings, (True,), running.versions)
        evaluation.run(running, looked[:1], concurrency=4)
        _, graded = evaluation.graded(looked[0], "model", True)
        assert graded.states() == {"answered": 0, "no box": 0, "empty": 2, "failed": 2}
        assert graded.scores(1) == [0.0, 0.0]
        fake.answer = lambda text: 422
        with pytest.raises(EngineError, match=r"4 of 4 requests to .* failed.*refused on purpose"):
            evaluation.run(running, looked, concurrency=4)
        fake.answer, before = (lambda text: "\\boxed{B}"), len(fake.bodies)
        # Called again it asks what failed, and only that.
        again = Evaluation(tmp_path, [subject], settings, (True,), running.versions)
        again.run(running, looked, concurrency=4)
        assert {text.split()[0] for text in fake.texts()[before:]} == {"mmmu"}
        assert again.graded(looked[1], "model", True)[1].scores(1) == [1.0, 1.0]
        assert again.graded(looked[0], "model", True)[1].states() == graded.states()


def test_a_set_that_cannot_be_read_is_named_before_anything_is_asked(
    running: Harness, copies: Path, tmp_path: Path
) -> None:
    settings = Settings("mm_zero", 1, 0.6, 0.95, 64, None, 0)
    chosen = [SETS["chartqa"], SETS["mmsi"]]
    with pytest.raises(UserError) as error:
        look(running, chosen, settings, data=None, out=tmp_path)
    assert "nothing was asked" in str(error.value)
    for each in chosen:
        assert f"hf download {each.repository} --repo-type dataset" in str(error.value)
    (tmp_path / "mmsi").mkdir()
    (tmp_path / "mmsi" / "data.parquet").write_bytes(b"this is no parquet file")
    with pytest.raises(UserError, match=r"(?s)chartqa: .* is not there.*mmsi: .*cannot be read"):
        look(running, chosen, settings, data=tmp_path, out=tmp_path)
