from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.downstream import evaluation
from benchmarks.downstream.driver import FAILED
from benchmarks.downstream.evaluation import Evaluation, Looked, Settings, check_pictures, look
from benchmarks.downstream.models import Subject
from benchmarks.downstream.sets import SETS
from mmzero_env.errors import EngineError, UserError
from tests.fake_endpoint import FakeEndpoint, fake_endpoint

SETTINGS = Settings("mm_zero", 8, 0.6, 0.95, 4096, None, 3)
VERSIONS = {"lmms_eval": "0.7.3"}


class FakeHarness:
    """Stands in for the process of lmms-eval: writes what the real one would."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.failing: set[int] = set()
        self.columns = ["answer", "image", "question"]

    def look(self, order: Any) -> dict[str, Any]:
        if order["name"] == "mmsi":
            return {"error": "ConnectionError: no network"}
        return {"items": 100, "columns": self.columns, "repository": "here"}

    def ask(self, **order: Any) -> dict[str, Any]:
        self.orders.append(order)
        path = Path(order["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        lines, failed = [], 0
        for item in range(order["start"], order["stop"]):
            bad = item in self.failing
            failed += order["samples"] * bad
            line = {"item": item, "question": "?", "options": [], "answer": "7", "kept": {}}
            text = f"{FAILED} x]" if bad else "\\boxed{7}"
            lines.append(json.dumps({**line, "texts": [text] * order["samples"]}))
        path.write_text("\n".join(lines) + "\n")
        count = len(lines)
        return {
            "items": count,
            "answers": count * order["samples"],
            "failed": failed,
            "failure": f"{FAILED} x]",
            "own": 0.25 if order["start"] else 1.0,
        }


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint(lambda _: "x") as fake:
        yield fake


def looked(name: str = "chartqa", items: int = 100) -> Looked:
    return Looked(SETS[name], SETS[name].order(data=None, limit=None), items)


def evaluate(out: Path, fake: FakeEndpoint, **changes: Any) -> Evaluation:
    subject = Subject("model", f"openai:fake@{fake.url}")
    settings = Settings(**{**vars(SETTINGS), **changes})
    return Evaluation(out, [subject], settings, (True, False), VERSIONS)


def test_a_set_is_asked_in_cells_with_and_without_pictures(tmp_path, endpoint) -> None:
    harness, found = FakeHarness(), evaluate(tmp_path, endpoint)
    found.run(harness, [looked()], concurrency=9)
    assert [(o["picture"], o["start"], o["stop"]) for o in harness.orders] == [
        (True, 0, 64),
        (True, 64, 100),
        (False, 0, 64),
        (False, 64, 100),
    ]
    order = harness.orders[0]
    assert order["generation"] == {
        "temperature": 0.6,
        "top_p": 0.95,
        "max_new_tokens": 4096,
        "do_sample": True,
    }
    assert order["endpoint"]["concurrency"] == 9 and order["endpoint"]["key"] == "none"
    assert "{question}" in order["template"] and "<think>" in order["template"]
    items, graded = found.graded(looked(), "model", True)
    assert len(items) == 100 and graded.items == tuple(range(100)) and graded.ks == (1, 8)
    # Weighted by items: 64 at 1.0 and 36 at 0.25.
    assert found.own(looked(), "model", True) == pytest.approx(0.73)


def test_done_cells_are_not_asked_again_and_other_settings_are_refused(tmp_path, endpoint) -> None:
    evaluate(tmp_path, endpoint).run(FakeHarness(), [looked()], concurrency=1)
    again, harness = evaluate(tmp_path, endpoint), FakeHarness()
    again.run(harness, [looked(), looked("mmmu", 10)], concurrency=1)
    assert [order["set"]["name"] for order in harness.orders] == ["mmmu", "mmmu"]
    with pytest.raises(UserError, match=r"other settings \(samples\)"):
        evaluate(tmp_path, endpoint, samples=4)
    (tmp_path / "answers/model/mmmu/with-pictures/000000.jsonl").unlink()
    with pytest.raises(UserError, match="is gone"):
        again.graded(looked("mmmu", 10), "model", True)


def test_a_refused_item_is_wrong_and_a_set_without_any_answer_stops_it(tmp_path, endpoint) -> None:
    harness, found = FakeHarness(), evaluate(tmp_path, endpoint)
    harness.failing = {3}
    found.run(harness, [looked(items=10)], concurrency=1)
    _, graded = found.graded(looked(items=10), "model", True)
    assert graded.summary()["pass@1"]["mean"] == 0.9 and graded.states()["failed"] == 8
    harness.failing = set(range(10))
    with pytest.raises(EngineError, match="80 of 80 requests .* failed"):
        found.run(harness, [looked("mmmu", 10)], concurrency=1)
    assert not any("mmmu" in key for key in evaluate(tmp_path, endpoint)._cells.done)


def test_one_refusal_is_no_wrong_answer_when_the_server_is_gone(tmp_path, endpoint) -> None:
    harness, found = FakeHarness(), evaluate(tmp_path, endpoint)

    def ask(**order: Any) -> dict[str, Any]:
        endpoint.down = True
        return FakeHarness.ask(harness, **order)

    harness.failing = {3}
    broken = type("Broken", (), {"ask": staticmethod(ask)})()
    with pytest.raises(EngineError, match="does not answer"):
        found.run(broken, [looked(items=10)], concurrency=1)
    assert not found._cells.done


def test_every_set_is_read_before_anything_is_asked(tmp_path) -> None:
    sets = [SETS["chartqa"], SETS["mmsi"], SETS["visnumbench"]]
    harness = FakeHarness()
    with pytest.raises(UserError) as error:
        look(harness, sets, SETTINGS, data=None, out=tmp_path)
    said = str(error.value)
    assert "nothing was asked" in said and not harness.orders
    assert "mmsi: its data set RunsenXu/MMSI-Bench cannot be read (ConnectionError" in said
    assert "hf download RunsenXu/MMSI-Bench --repo-type dataset --local-dir DIR/mmsi" in said
    assert "visnumbench: expected the columns problem in here, found answer, image" in said
    assert "chartqa" not in said
    with pytest.raises(UserError, match=r"chartqa is not there.*hf download lmms-lab-encoder"):
        look(harness, sets[:1], SETTINGS, data=tmp_path, out=tmp_path)
    (tmp_path / "chartqa").mkdir()
    (found,) = look(harness, sets[:1], SETTINGS, data=tmp_path, out=tmp_path)
    assert found.order["changes"] == {"dataset_path": str(tmp_path / "chartqa")}


def test_the_probe_is_written_with_its_questions_and_answers(tmp_path) -> None:
    settings = Settings(**{**vars(SETTINGS), "items": 10, "seed": 4})
    (found,) = look(FakeHarness(), [SETS["mmzero-probe"]], settings, data=None, out=tmp_path)
    folder = Path(found.order["changes"]["dataset_path"]) / "test"
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").open()]
    assert len(lines) == 10 and [line["level"] for line in lines[:2]] == ["easy", "hard"]
    assert all((folder / line["file_name"]).is_file() and line["answer"] for line in lines)
    before = (folder / "metadata.jsonl").stat().st_mtime_ns
    look(FakeHarness(), [SETS["mmzero-probe"]], settings, data=None, out=tmp_path)
    assert (folder / "metadata.jsonl").stat().st_mtime_ns == before


def test_several_pictures_need_a_server_that_takes_them() -> None:
    local, remote = Subject("model", "nano"), Subject("model", "vllm:m@http://127.0.0.1:1")
    check_pictures([remote], list(SETS.values()))
    check_pictures([local], [SETS["chartqa"]])
    with pytest.raises(UserError, match="mmmu, mmsi: .*nano.*mmzero serve"):
        check_pictures([remote, local], [SETS["mmmu"], SETS["chartqa"], SETS["mmsi"]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 0}, "--samples expects 1 or more"),
        ({"max_tokens": 0}, "--max-tokens expects 1"),
        ({"top_p": 0.0}, "--top-p above 0"),
        ({"temperature": -1.0}, "--temperature of 0 or more"),
        ({"temperature": 0.0}, "are the same; give --samples 1"),
        ({"prompts": "nanoo"}, "unknown prompt set"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Settings(**{**vars(SETTINGS), **changes})


def test_cells_are_small_enough_to_lose() -> None:
    assert evaluation.CELL_ANSWERS // SETTINGS.samples == 64
