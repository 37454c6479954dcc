"""Two made-up items of every set, in the columns that lmms-eval 0.7.3 reads of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

LETTERS = "['red', 'blue', 'green', 'grey']"

# Of every set the right answer to its first item, as a model would box it; the second item's
# is another one.
RIGHT: Mapping[str, str] = {
    "mmmu": "B",
    "mmmu-pro-4": "(B)",
    "mmmu-pro-10": "B. blue",
    "mmmu-pro-vision": "blue",
    "mm-vet": "-5 and also -1",
    "chartqa": "104",
    "mathverse": "b",
    "mathvision": "\\frac{1}{2}",
    "mathvista": "1.24",
    "visnumbench": "b",
    "hallusionbench": "Yes.",
    "mmsi": "\\text{B}",
}
SEVERAL = ("mmmu", "mmsi")
UNSHOWN_OPTIONS = ("mmmu-pro-vision",)


def picture(shade: int = 200) -> Any:
    return PILImage.new("RGB", (32, 24), (shade, 20, 20))


def write(folder: Path) -> Path:
    """Writes all sets into a folder as ``--data`` wants it."""
    mmmu = [
        {
            "id": f"validation_Accounting_{i}",
            "question": f"mmmu {i}: <image 1> or <image 2>?",
            "options": LETTERS,
            "answer": "B",
            "question_type": "multiple-choice",
            "image_1": picture(),
            "image_2": picture(90),
        }
        for i in range(2)
    ]
    standard = {
        f"mmmu-pro-{n}": [
            {
                "id": f"test_Accounting_{i}",
                "question": f"mmmu-pro-{n} {i}: <image 1>?",
                "options": LETTERS,
                "answer": "B",
                "subject": "Accounting",
                "image_1": picture(),
            }
            for i in range(2)
        ]
        for n in (4, 10)
    }
    vision = [
        {
            "id": f"test_Accounting_{i}",
            "options": LETTERS,
            "answer": "B" if i == 0 else "C",
            "subject": "Accounting",
            "image": picture(),
        }
        for i in range(2)
    ]
    _save(folder / "mmmu", "validation", mmmu)
    configs = {
        "standard (4 options)": standard["mmmu-pro-4"],
        "standard (10 options)": standard["mmmu-pro-10"],
        "vision": vision,
    }
    _save_configs(folder / "mmmu-pro", "test", configs)
    _save(
        folder / "mm-vet",
        "test",
        [
            {
                "question_id": f"v1_{i}",
                "image": picture(),
                "question": f"mm-vet {i}: what is x?",
                "answer": "-1<AND>-5<OR>both roots",
                "capability": "math",
            }
            for i in range(2)
        ],
    )
    _save(
        folder / "chartqa",
        "test",
        [
            {
                "type": "human_test",
                "question": f"chartqa {i}: how much?",
                "answer": "100",
                "image": picture(),
            }
            for i in range(2)
        ],
    )
    mathverse = [
        {
            "sample_index": str(i),
            "problem_index": str(i),
            "problem_version": "Vision Intensive",
            "question": f"mathverse {i}: find x\nChoices:\nA:1\nB:2",
            "image": picture(),
            "answer": "B",
            "question_type": "multi-choice",
            "metadata": {"split": "testmini"},
            "query_wo": "…",
            "query_cot": "…",
            "question_for_eval": f"mathverse {i} in full: find x\nChoices:\nA:1\nB:2",
        }
        for i in range(2)
    ]
    _save_configs(folder / "mathverse", "testmini", {"testmini": mathverse})
    _save(
        folder / "mathvision",
        "test",
        [
            {
                "id": str(i),
                "question": f"mathvision {i}: which part?",
                "options": ["1/3", "0.5"],
                "image": "x.jpg",
                "decoded_image": picture(),
                "answer": "B",
            }
            for i in range(2)
        ],
    )
    _save(
        folder / "mathvista",
        "testmini",
        [
            {
                "pid": str(i),
                "question": f"mathvista {i}: how long?",
                "image": "x.jpg",
                "decoded_image": picture(),
                "choices": None,
                "unit": "cm",
                "precision": 1.0,
                "answer": "1.2",
                "question_type": "free_form",
                "answer_type": "float",
                "metadata": {"split": "testmini"},
                "query": "…",
            }
            for i in range(2)
        ],
    )
    _save(
        folder / "visnumbench",
        "test",
        [
            {
                "images": picture(),
                "problem": f"<image>visnumbench {i}: how many? (a) 1 (b) 2",
                "answer": "(b)",
            }
            for i in range(2)
        ],
    )
    _save(
        folder / "hallusionbench",
        "image",
        [
            {
                "category": "VD",
                "subcategory": "chart",
                "set_id": "0",
                "figure_id": "1",
                "question_id": str(i),
                "question": f"hallusionbench {i}: is it red?",
                "gt_answer": "1",
                "gt_answer_details": "It is.",
                "image": picture(),
            }
            for i in range(2)
        ],
    )
    _save(
        folder / "mmsi",
        "test",
        [
            {
                "id": i,
                "images": [picture(), picture(90)],
                "question_type": "Motion (Cam.)",
                "question": f"mmsi {i}: where? Options: A: left, B: right",
                "answer": "B",
            }
            for i in range(2)
        ],
    )
    return folder


def _save(folder: Path, split: str, rows: list[dict[str, Any]], name: str = "data") -> None:
    features = Features({key: _feature(value) for key, value in rows[0].items()})
    (folder / name).mkdir(parents=True, exist_ok=True)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    dataset = Dataset.from_dict(columns, features=features)
    dataset.to_parquet(folder / name / f"{split}-00000-of-00001.parquet")


def _save_configs(folder: Path, split: str, configs: Mapping[str, list[dict[str, Any]]]) -> None:
    """Several configurations are told apart by the head of the README, as on the hub."""
    entries = []
    for place, (config, rows) in enumerate(configs.items()):
        _save(folder, split, rows, f"part{place}")
        files = [{"split": split, "path": f"part{place}/{split}-*"}]
        entries.append({"config_name": config, "data_files": files})
    head = json.dumps({"configs": entries})
    (folder / "README.md").write_text(f"---\n{head}\n---\n")


def _feature(value: Any) -> Any:
    if isinstance(value, PILImage.Image):
        return Image()
    if isinstance(value, list):
        return List(_feature(value[0]))
    if isinstance(value, dict):
        return {key: _feature(inner) for key, inner in value.items()}
    kinds = {str: "string", float: "float64", int: "int64"}
    return Value("string") if value is None else Value(kinds[type(value)])
