from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import agents
from benchmarks.downstream import harness
from benchmarks.downstream.driver import FAILED
from benchmarks.downstream.sets import COLUMNS, SUITES
from mmzero_env.protocol import Completion, Request, Response
from tests.fake_endpoint import fake_endpoint
from trainers import cli

COLUMNS_OF_ALL = ["answer", "gt_answer", "problem", "question"]
# The model is right on items 0 to 2 of 4, the base on item 0; one request of the base fails.
TEXTS = {
    "model": ["\\boxed{B}", "\\boxed{B}", "\\boxed{b}", "\\boxed{C}"],
    "base": ["\\boxed{B}", "no box", "", f"{FAILED} x]"],
}


class FakeHarness:
    versions = {"lmms_eval": harness.HARNESS_VERSION, "torch": "2.13.0"}
    asked = 0

    def __init__(self, python: Path, log: Path, *, offline: bool = False) -> None:
        self.offline = offline

    def __enter__(self) -> FakeHarness:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def look(self, order: Any) -> dict[str, Any]:
        return {"items": 4, "columns": COLUMNS_OF_ALL, "repository": "here"}

    def ask(self, **order: Any) -> dict[str, Any]:
        type(self).asked += 1
        path = Path(order["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        label = "model" if "/model/" in str(path) else "base"
        texts = TEXTS[label] if order["picture"] else ["\\boxed{C}"] * 4
        shape = {"question": "Which?", "options": ["x", "y", "z"], "answer": "B", "kept": {}}
        lines = [
            json.dumps({"item": i, **shape, "texts": [text] * order["samples"]})
            for i, text in enumerate(texts)
        ]
        path.write_text("\n".join(lines) + "\n")
        failed = sum(text.startswith(FAILED) for text in texts)
        own = None if order["set"]["own"] is None else 0.5
        return {"items": 4, "answers": 4, "failed": failed, "failure": "", "own": own}


class SaysYes:
    """A judge that finds every answer right."""

    name = "yes"

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        return [Response(r.id, (Completion("Yes."),)) for r in requests]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(harness, "Harness", FakeHarness)
    monkeypatch.setattr(harness, "find", lambda given: given)
    monkeypatch.setattr(harness, "hub_answers", lambda: False)
    monkeypatch.setattr(agents, "make", lambda spec: SaysYes())
    monkeypatch.setattr(FakeHarness, "asked", 0)
    with fake_endpoint(lambda _: "x") as fake:
        spec = f"openai:fake@{fake.url}"
        yield ["eval", spec, "--base", spec, "--samples", "1", "--out", str(tmp_path / "out")]


def test_the_whole_paper_ends_in_ten_columns_with_the_base_beside(line, tmp_path, capsys) -> None:
    assert cli.main([*line, "--suite", "paper", "--judge", "openai:j@http://127.0.0.1:1"]) == 0
    shown = capsys.readouterr()
    result = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert len(result["sets"]) == 24 and FakeHarness.asked == 48
    first = next(each for each in result["sets"] if each["set"] == "mmmu")
    assert first["rules"]["model"]["pass@1"]["mean"] == 0.75
    assert first["rules"]["base"]["pass@1"]["mean"] == 0.25
    assert first["rules"]["base"]["answers"] == {
        "answered": 1,
        "no box": 1,
        "empty": 1,
        "failed": 1,
    }
    assert first["change"]["pass@1"]["mean"] == 0.5
    assert first["lmms_eval_first_answer"] == {"model": 0.5, "base": 0.5}
    # The judge finds right what was answered, and is not asked where nothing was.
    assert first["judge"]["model"]["pass@1"]["mean"] == 1.0
    assert first["judge"]["base"]["pass@1"]["mean"] == 0.25
    assert first["judge_change"]["pass@1"]["mean"] == 0.75
    assert list(result["columns"]["model"]) == [*COLUMNS, "mean"]
    assert result["columns"]["model"]["mean"] == 1.0
    assert "3 of 4: 1 no box, 1 empty, 1 failed" in shown.out
    assert "+.500" in shown.out and "the ten columns of the paper" in shown.out
    assert "the Hugging Face hub does not answer" in shown.err
    verdicts = [json.loads(v) for v in (tmp_path / "out" / "verdicts.jsonl").open()]
    assert len(verdicts) == 12 * 2 * 2 * 4
    assert verdicts[3]["given"] == ["C"] and not verdicts[3]["right"][0]
    assert verdicts[3]["judged_right"] == [True]


def test_sets_are_added_to_what_is_there_and_lower_bounds_are_said_to_be(
    line, tmp_path, capsys
) -> None:
    assert cli.main([*line, "--suite", "chartqa", "--pictures", "with"]) == 0
    assert FakeHarness.asked == 2
    assert cli.main([*line, "--suite", "chartqa,mm-vet"]) == 0
    assert FakeHarness.asked == 2 + 2 + 4
    result = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert [(each["set"], each["pictures"]) for each in result["sets"]] == [
        ("chartqa", True),
        ("chartqa", False),
        ("mm-vet", True),
        ("mm-vet", False),
    ]
    assert result["columns"] == {} and "judge" not in result["sets"][0]
    assert "mm-vet: free answers, for which rules are a lower bound" in capsys.readouterr().out
    assert cli.main([*line, "--suite", "chartqa", "--temperature", "0.5"]) == 2
    assert "other settings (temperature)" in capsys.readouterr().err


def test_suites_of_one_model_share_a_folder_by_default(line, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = [line[0], line[1], "--no-base", "--suite", SUITES["paper"][0], "--samples", "1"]
    assert cli.main(alone) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("eval-openai-fake-http-127.0.0.1-")
    result = json.loads((folder / "eval.json").read_text())
    assert list(result["models"]) == ["model"] and "change" not in result["sets"][0]
