"""Runs inside the environment of lmms-eval: takes orders on standard input, one JSON line each.

    .venv-eval/bin/python -P benchmarks/downstream/driver.py

Data sets, splits, pictures, requests, retries and its own metrics are lmms-eval's, through its
documented ``simple_evaluate``. Ours is what it cannot do from its command line: one prompt for
all sets, several answers an item each with a seed of its own (``--repeats`` sends the same
seed again), the picture left out, and samples that keep question and answer. One process
answers all orders, so that lmms-eval is imported and a data set is read once.

This file imports nothing of MM-Zero, which is not installed there.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.metadata
import json
import os
import platform
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("lmms_eval", "datasets", "openai", "torch", "transformers")
FAILED = "[LMMS_EVAL_REQUEST_FAILED"
"""How lmms-eval 0.7.3 begins the text that it puts in place of a failed request's answer
(``lmms_eval/models/chat/openai.py``)."""

Order = Mapping[str, Any]


def main() -> None:
    """Serve until standard input ends."""
    # Tasks print; what they print must not get between our lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    harness = Harness()
    _say(answers, {"versions": _versions()})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(harness, order["do"])(order)
        except Exception as error:
            # The other side turns it into an error of its own; the traceback goes to the log.
            sys.excepthook(type(error), error, error.__traceback__)
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


class Harness:
    """lmms-eval with what it has read so far."""

    def __init__(self) -> None:
        import lmms_eval.tasks  # ty: ignore[import-not-found]
        from lmms_eval import evaluator  # ty: ignore[import-not-found]

        self._evaluate = evaluator.simple_evaluate
        self._folder = Path(lmms_eval.tasks.__file__).parent
        # Without the defaults: indexing two thousand task files takes longer than a quick run.
        self._manager = lmms_eval.tasks.TaskManager("WARNING", include_defaults=False)
        self._data: dict[str, tuple[Any, Any, list[int]]] = {}
        self._models: dict[str, Any] = {}
        self._configs: dict[str, dict[str, Any]] = {}

    def look(self, order: Order) -> dict[str, Any]:
        """Read the data set of a set: how many items it has, which of them are chosen."""
        task = self._task(order["set"], {})
        return {
            "items": len(self._data[_key(order["set"])][2]),
            "columns": sorted(task.features),
            "repository": str(task.DATASET_PATH),
        }

    def ask(self, order: Order) -> dict[str, Any]:
        """Ask a part of a set and write the answers into a file, one item a line."""
        task = self._task(order["set"], order)
        start, stop = order["start"], order["stop"]
        found = self._evaluate(
            model=self._model(order["endpoint"]),
            tasks=[task],
            limit=stop - start,
            offset=start,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=self._manager,
            verbosity="WARNING",
            cli_args=argparse.Namespace(process_with_media=False),
        )
        name = order["set"]["name"]
        chosen = self._data[_key(order["set"])][2]
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        numbers = [sample["doc_id"] for sample in samples]
        if numbers != list(range(start, stop)):
            raise RuntimeError(f"expected items {start} to {stop - 1} of {name}, came {numbers}")
        path = Path(order["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.partial")
        with draft.open("w", encoding="utf-8") as file:
            for sample in samples:
                line = {"item": chosen[sample["doc_id"]], **sample["record"]}
                file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        draft.replace(path)
        texts = [text for sample in samples for text in sample["record"]["texts"]]
        return {
            "items": len(samples),
            "answers": len(texts),
            "failed": sum(text.startswith(FAILED) for text in texts),
            "failure": next((text for text in texts if text.startswith(FAILED)), ""),
            "own": self._own(order["set"], found, samples),
        }

    def _own(self, spec: Order, found: Order, samples: Sequence[Order]) -> float | None:
        """The set's metric by lmms-eval over the first answer of every item."""
        if spec["own"] is None or any(sample["record"]["own_error"] for sample in samples):
            return None
        return float(found["results"][spec["name"]][f"{spec['own']},none"])

    def _task(self, spec: Order, order: Order) -> Any:
        from lmms_eval import utils  # ty: ignore[import-not-found]

        path = str(self._folder / spec["yaml"])
        if path not in self._configs:
            # Reading a task file imports the code beside it anew, which takes longer than asking.
            self._configs[path] = utils.load_yaml_config(path)
        config = copy.deepcopy(self._configs[path])
        changes = {"task": spec["name"], **spec["changes"]}
        # A token of the hub is used where there is one, and not asked for where there is none.
        changes |= {"dataset_kwargs": None, "doc_to_messages": None, "tag": None}
        changes |= {"generation_kwargs": {"until": [], **order.get("generation", {})}}
        changes |= {"model_specific_generation_kwargs": None, "filter_list": None, "metadata": {}}
        if spec["own"] is None:
            changes["metric_list"] = [
                {"metric": "answered", "aggregation": "mean", "higher_is_better": True}
            ]
        return _task_class()(config | changes, spec, order, self._data)

    def _model(self, endpoint: Order) -> Any:
        key = json.dumps(endpoint, sort_keys=True)
        if key not in self._models:
            from lmms_eval.models.chat import openai  # ty: ignore[import-not-found]

            self._models[key] = openai.OpenAICompatible(
                model=endpoint["model"],
                base_url=endpoint["url"],
                api_key=endpoint["key"],
                num_concurrent=endpoint["concurrency"],
                max_retries=endpoint["attempts"],
                httpx_trust_env=not endpoint["local"],
            )
        return self._models[key]


def _task_class() -> type:
    """The task of lmms-eval with our prompt, seeds and samples."""
    from lmms_eval.api.instance import Instance  # ty: ignore[import-not-found]
    from lmms_eval.api.task import ConfigurableMessagesTask  # ty: ignore[import-not-found]

    class Asked(ConfigurableMessagesTask):
        def __init__(self, config: dict[str, Any], spec: Order, order: Order, data: Any):
            self._spec, self._order, self._read = spec, order, data
            super().__init__(config=config, model_name="openai")

        def download(self, dataset_kwargs: Any = None) -> None:
            key = _key(self._spec)
            if key not in self._read:
                # Without the retries around it, which last minutes and hide the reason.
                ConfigurableMessagesTask.download.__wrapped__(self, dataset_kwargs)
                split = self.config.test_split or self.config.validation_split
                chosen = _spread(len(self.dataset[split]), self._spec["limit"])
                for data in (self.dataset, self.dataset_no_image):
                    data[split] = data[split].select(chosen)
                self._read[key] = (self.dataset, self.dataset_no_image, chosen)
            self.dataset, self.dataset_no_image, _ = self._read[key]

        def doc_to_text(self, doc: Mapping[str, Any]) -> str:
            template = self._order.get("template", "{question}")
            return template.replace("{question}", asked(doc, self._spec), 1)

        def doc_to_target(self, doc: Mapping[str, Any]) -> str:
            return str(doc[self._spec["answer"]])

        def doc_to_messages(self, doc: Mapping[str, Any], **_: Any) -> list[dict[str, Any]]:
            shown = (self.doc_to_visual(doc) or []) if self._order["picture"] else []
            return self._build_user_turn(shown, self.doc_to_text(doc))

        def construct_requests(self, doc_id: int, ctx: str, **kwargs: Any) -> list[Any]:
            split = kwargs["metadata"]["split"]
            return [
                Instance(
                    request_type=self.OUTPUT_TYPE,
                    arguments=(
                        ctx,
                        self.doc_to_messages,
                        {**self.config.generation_kwargs, "seed": self._seed(doc_id, sample)},
                        doc_id,
                        self.config.task,
                        split,
                    ),
                    idx=sample,
                    task_name=self.config.task,
                    doc_id=doc_id,
                    **kwargs,
                )
                for sample in range(self._order["samples"])
            ]

        def _seed(self, doc_id: int, sample: int) -> int:
            # By item, not by place: the first items of a set get the seeds of the whole set.
            item = self._read[_key(self._spec)][2][doc_id]
            name = f"{self._spec['name']}/{item}/{sample}/{self._order['seed']}"
            return zlib.crc32(name.encode()) % 2**31

        def process_results(
            self, doc: Mapping[str, Any], results: Sequence[Any], full_docs: Any = None
        ) -> dict[str, Any]:
            texts = [text if isinstance(text, str) else "" for text in results]
            spec, own, own_error = self._spec, {"answered": float(bool(texts[0]))}, ""
            if spec["own"] is not None:
                try:
                    own = self.config.process_results(doc, [boxed(texts[0])])
                except Exception as error:
                    own_error = f"{type(error).__name__}: {error}"
            record = {
                "question": str(doc.get(spec["judge_question"]) or asked(doc, spec, whole=True)),
                "options": options(doc, spec),
                "answer": str(doc[spec["answer"]]),
                "kept": {name: doc[name] for name in spec["keep"] if name in doc},
                "texts": texts,
                "own_error": own_error,
            }
            return {**own, "record": record}

    return Asked


def asked(doc: Mapping[str, Any], spec: Order, *, whole: bool = False) -> str:
    """A question with its unit, decimals and lettered options, as every set is asked.

    Args:
        doc: The item.
        spec: Its set.
        whole: With the options also where the picture shows them, for a judge that sees none.
    """
    text = str(doc.get(spec["question"]) or "").replace("<image>", "").strip()
    text = text or spec["in_picture"]
    if doc.get(spec["unit"]):
        text += f" (Unit: {doc[spec['unit']]})"
    decimals = doc.get(spec["decimals"])
    if decimals and float(decimals) > 0:
        text += f" (Decimal places: {int(decimals)})"
    listed = options(doc, spec) if whole or not spec["in_picture"] else []
    lettered = [f"{chr(65 + i)}. {each}" for i, each in enumerate(listed)]
    return "\n".join([text, *lettered])


def options(doc: Mapping[str, Any], spec: Order) -> list[str]:
    """The options of a multiple-choice item; MMMU keeps them as the text of a Python list."""
    found = doc.get(spec["options"]) or []
    if isinstance(found, str):
        found = ast.literal_eval(found)
    return [str(each) for each in found]


def boxed(text: str) -> str:
    r"""The content of the last ``\boxed{...}``, braces balanced, else the text after </think>.

    lmms-eval's metrics know nothing of boxes, so they get what a reader would take for the
    final answer.
    """
    start = text.rfind("\\boxed{")
    if start >= 0:
        start += len("\\boxed{")
        depth = 1
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[start:place].strip()
    return text.rpartition("</think>")[2].strip()


def _key(spec: Order) -> str:
    """Names what was read of a set: which copy, and how many items of it."""
    return json.dumps([spec["name"], spec["changes"], spec["limit"]])


def _spread(count: int, limit: int | None) -> list[int]:
    """Places of ``limit`` items that are spread evenly: sets are sorted by subject."""
    if limit is None or limit >= count:
        return list(range(count))
    return [place * count // limit for place in range(limit)]


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


def _say(stream: Any, answer: Mapping[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
