"""The sets of the paper's evaluation: where each lies, how it is asked, how it is graded.

Task ids, repositories, splits and columns are those of lmms-eval 0.7.3 (its task files and the
functions they name). Which sets, that the three forms of MMMU-Pro share a column, and how the
answers are sampled: the published evaluation script and section 4 of the paper (arXiv
2603.09206). The published run read copies of the sets (``zli12321/…``) whose exact items we
could not compare with these; VisNumBench has no other task and is read from that copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmzero_env.errors import UserError, unknown

Rule = Literal["choice", "relaxed", "yes_no", "parts"]

TASKS = Path(__file__).parents[1] / "lmms_tasks"

TEMPERATURE, TOP_P, MAX_TOKENS = 0.6, 0.95, 4096
"""How the published evaluation samples (its ``eval_generate.py``)."""

HARNESS_VERSION = "0.7.3"


@dataclass(frozen=True)
class BenchmarkSet:
    """One set.

    Attributes:
        name: For ``--suite``, and of the folder under ``--data`` unless ``folder`` names one.
        column: Which of the ten columns of the paper's table it counts in; "" for none.
        task: Its id in lmms-eval.
        yaml: Its task file, in lmms-eval's folder of tasks or in ours.
        repository: Data set on the Hugging Face hub; "" if it is made here.
        split: Which part of it.
        config: Its configuration on the hub, where it has several.
        answer: Column of the right answer.
        question: Column of the question; "" where it is in the picture.
        options: Column of the options, or "" where the question holds them.
        rule: How an answer is graded without a judge.
        own: lmms-eval's metric, if it needs no judge; else None.
        own_scale: Brings that metric to a share of 1.
        lettered: Whether the answer to a question with options is a letter; else a text.
        judged: Whether rules alone are only a lower bound.
        several: Whether items can hold several pictures.
        in_picture: What is asked where the question is in the picture.
        unit: Column of the unit that is asked for.
        decimals: Column of the number of decimals that is asked for.
        judge_question: Column of a question for readers who do not see the picture.
        keep: More columns that grading needs.
        folder: Of the local copy, where several sets share one.
    """

    name: str
    column: str
    task: str
    yaml: str
    repository: str
    split: str
    answer: str = "answer"
    question: str = "question"
    config: str = ""
    options: str = ""
    rule: Rule = "choice"
    own: str | None = None
    own_scale: float = 1.0
    lettered: bool = True
    judged: bool = False
    several: bool = False
    in_picture: str = ""
    unit: str = ""
    decimals: str = ""
    judge_question: str = ""
    keep: tuple[str, ...] = ()
    folder: str = ""

    def order(self, *, data: Path | None, limit: int | None) -> dict[str, Any]:
        """What the driver needs to know of the set.

        Args:
            data: Folder of a local copy, or None for the hub.
            limit: Most items.
        """
        changes: dict[str, Any] = {"dataset_name": self.config} if self.config else {}
        if data is not None:
            changes["dataset_path"] = str(data.absolute())
        ours = TASKS / self.yaml
        return {
            "name": self.name,
            "yaml": str(ours) if ours.is_file() else self.yaml,
            "changes": changes,
            "limit": limit,
            "keep": list(self.keep),
        } | {name: getattr(self, name) for name in _ASKED}


_ASKED = ("answer", "question", "options", "own", "in_picture", "unit", "decimals") + (
    "judge_question",
)
_MMMU_PRO = "MMMU/MMMU_Pro"
_READ_IT = "Answer the question in the picture."
_CHOOSE = "Answer the multiple-choice question in the picture."

SETS: Mapping[str, BenchmarkSet] = {
    each.name: each
    for each in (
        BenchmarkSet(
            "mmmu",
            "MMMU",
            "mmmu_val",
            "mmmu/mmmu_val.yaml",
            "lmms-lab-encoder/MMMU",
            "validation",
            options="options",
            own="mmmu_acc",
            several=True,
        ),
        BenchmarkSet(
            "mmmu-pro-4",
            "MMMU-Pro",
            "mmmu_pro_standard",
            "mmmu_pro/mmmu_pro_standard.yaml",
            _MMMU_PRO,
            "test",
            config="standard (4 options)",
            options="options",
            own="mmmu_acc",
            several=True,
            folder="mmmu-pro",
        ),
        BenchmarkSet(
            "mmmu-pro-10",
            "MMMU-Pro",
            "mmmu_pro_standard",
            "mmmu_pro/mmmu_pro_standard.yaml",
            _MMMU_PRO,
            "test",
            config="standard (10 options)",
            options="options",
            own="mmmu_acc",
            several=True,
            folder="mmmu-pro",
        ),
        BenchmarkSet(
            "mmmu-pro-vision",
            "MMMU-Pro",
            "mmmu_pro_vision",
            "mmmu_pro/mmmu_pro_vision.yaml",
            _MMMU_PRO,
            "test",
            config="vision",
            question="",
            options="options",
            own="mmmu_acc",
            in_picture=_CHOOSE,
            folder="mmmu-pro",
        ),
        BenchmarkSet(
            "mm-vet",
            "MM-Vet",
            "mmvet",
            "mmvet/mmvet.yaml",
            "lmms-lab-encoder/MMVet",
            "test",
            rule="parts",
            judged=True,
        ),
        BenchmarkSet(
            "chartqa",
            "ChartQA",
            "chartqa",
            "chartqa/chartqa.yaml",
            "lmms-lab-encoder/ChartQA",
            "test",
            rule="relaxed",
            own="relaxed_overall",
        ),
        BenchmarkSet(
            "mathverse",
            "MathVerse",
            "mathverse_testmini",
            "mathverse/mathverse_testmini.yaml",
            "CaraJ/MathVerse-lmmseval",
            "testmini",
            in_picture=_READ_IT,
            judge_question="question_for_eval",
            judged=True,
        ),
        BenchmarkSet(
            "mathvision",
            "MathVision",
            "mathvision_test",
            "mathvision/mathvision_test.yaml",
            "MathLLMs/MathVision",
            "test",
            options="options",
            own="mathvision_standard_eval",
            own_scale=0.01,
        ),
        BenchmarkSet(
            "mathvista",
            "MathVista",
            "mathvista_testmini_format",
            "mathvista/mathvista_testmini_format.yaml",
            "AI4Math/MathVista",
            "testmini",
            options="choices",
            lettered=False,
            unit="unit",
            decimals="precision",
            keep=("precision",),
        ),
        BenchmarkSet(
            "visnumbench",
            "VisNumBench",
            "visnumbench",
            "visnumbench.yaml",
            "zli12321/visnumbench",
            "test",
            question="problem",
            own="exact",
        ),
        BenchmarkSet(
            "hallusionbench",
            "HallusionBench",
            "hallusion_bench_image",
            "hallusion_bench/hallusion_bench_image.yaml",
            "lmms-lab-encoder/HallusionBench",
            "image",
            answer="gt_answer",
            rule="yes_no",
        ),
        BenchmarkSet(
            "mmsi",
            "MMSI",
            "mmsi_bench",
            "mmsi_bench/msr_bench.yaml",
            "RunsenXu/MMSI-Bench",
            "test",
            own="average",
            several=True,
        ),
        BenchmarkSet(
            "mmzero-probe",
            "",
            "mmzero_probe",
            "mmzero_probe.yaml",
            "",
            "test",
            own="exact",
            keep=("level",),
        ),
    )
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "paper": tuple(name for name, each in SETS.items() if each.column)
}
"""Names that stand for several sets: ``paper``, the twelve in ten columns."""

COLUMNS: tuple[str, ...] = tuple(dict.fromkeys(SETS[name].column for name in SUITES["paper"]))


def chosen(suite: str) -> tuple[BenchmarkSet, ...]:
    """The sets that a suite names.

    Args:
        suite: ``paper``, or names of sets with commas between.

    Raises:
        UserError: For a name that is none.
    """
    names = [name.strip() for name in suite.split(",")]
    found: list[str] = []
    for name in names:
        if name not in SETS and name not in SUITES:
            raise unknown("suite", name, ("probe", *SUITES, *SETS))
        found += SUITES.get(name, (name,))
    if len(set(found)) != len(found):
        raise UserError(f"--suite {suite} names a set twice.")
    return tuple(SETS[name] for name in found)


def local_copy(each: BenchmarkSet, data: Path | None) -> Path | None:
    """The folder of a set's local copy under ``--data``; None without ``--data``.

    Raises:
        UserError: If ``--data`` is given and holds no such folder; says how to fill it.
    """
    if data is None:
        return None
    folder = data / (each.folder or each.name)
    if not folder.is_dir():
        raise UserError(f"{folder} is not there. {how_to_copy(each, data)}")
    return folder


def how_to_copy(each: BenchmarkSet, data: Path | None = None) -> str:
    """The command that makes a local copy of a set."""
    copies = data or Path("DIR")
    return (
        f"Copy the set with: hf download {each.repository} --repo-type dataset --local-dir "
        f"{copies / (each.folder or each.name)}, on a machine that reaches the hub, and give "
        f"--data {copies}."
    )
