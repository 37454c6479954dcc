from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.policy import PolicyError
from benchmarks.downstream.judge import Case, Judge
from benchmarks.downstream.passes import Graded
from benchmarks.downstream.scoring import Item, Verdict
from mmzero_env.protocol import Completion, Request, Response


class Says:
    """A policy that says what a function of the prompt gives."""

    name = "says"

    def __init__(self, say) -> None:
        self.say = say
        self.prompts: list[str] = []

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.prompts += [request.prompt for request in requests]
        return [Response(r.id, (Completion(self.say(r.prompt)),)) for r in requests]


def answered(*given: str | None) -> tuple[list[Item], Graded]:
    items = [Item(i, "Q" * 900 + f" {i}?", (), "A. 1/2", {}, ("",)) for i in range(len(given))]
    verdicts = tuple((Verdict(False, text, "answered" if text else "failed"),) for text in given)
    return items, Graded(tuple(range(len(given))), verdicts)


def test_the_judge_reads_question_and_answer_whole_and_its_first_word_counts(tmp_path: Path):
    policy = Says(lambda p: " yes, indeed" if "\\frac{1}{2}" in p else "I think yes")
    judge = Judge(policy, tmp_path / "judge.jsonl")
    judged = judge.over(*answered("\\frac{1}{2}", "{question}", None))
    assert [row[0].right for row in judged.verdicts] == [True, False, False]
    assert judge.unclear == 1
    assert len(policy.prompts) == 2
    assert all("Q" * 900 in prompt and "A. 1/2" in prompt for prompt in policy.prompts)
    assert "{question}" in policy.prompts[1]


def test_the_judge_is_asked_once_for_the_same_case_even_after_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    items, graded = answered("7")
    both = Graded((0, 1), graded.verdicts * 2)
    first = Says(lambda _: "Yes")
    assert Judge(first, path).over(items * 2, both).scores(1) == [1.0, 1.0]
    assert len(first.prompts) == 1
    path.write_text(path.read_text() + '{"judge": "says", "id"')
    second = Says(lambda _: "No")
    assert Judge(second, path).over(items, graded).scores(1) == [1.0] and not second.prompts
    other = Says(lambda _: "No")
    other.name = "another"
    assert Judge(other, path).over(items, graded).scores(1) == [0.0] and len(other.prompts) == 1


def test_a_judge_that_fails_is_no_verdict(tmp_path: Path) -> None:
    def fails(_: str) -> str:
        raise PolicyError("gone")

    items, graded = answered("7")
    try:
        Judge(Says(fails), tmp_path / "judge.jsonl").over(items, graded)
    except PolicyError as error:
        assert str(error) == "gone"
    else:
        raise AssertionError("a failure became a verdict")


def test_cases_are_the_same_whatever_model_answered() -> None:
    assert Case("q", "a", "g").id == Case("q", "a", "g").id != Case("qa", "", "g").id
