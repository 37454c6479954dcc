from __future__ import annotations

import pytest

from mmzero_env.protocol import Proposal, Request
from trainers.dispatcher import Dispatcher
from trainers.play.page_person import PagePerson, Stale

ASKED = Proposal("map", "a caption", "easy?", "1", "hard?", "2")


def request(id: str = "e/solver/0/easy", n: int = 1) -> Request:
    return Request(id, "solver", "a prompt", n, proposal=ASKED)


def person() -> tuple[PagePerson, list[str]]:
    changes: list[str] = []
    return PagePerson(lambda: changes.append("changed")), changes


def test_an_answer_of_a_person_is_a_response():
    somebody, changes = person()
    future = somebody.submit(request(n=2))
    assert len(changes) == 1
    for number, answer in enumerate(("7", "8")):
        question = somebody.question
        assert question is not None and question.id == f"e/solver/0/easy#{number}"
        assert somebody.answer(question.id, {"answer": answer}) is None
    assert [c.text for c in future.result(0).completions] == [
        "<think></think>\\boxed{7}",
        "<think></think>\\boxed{8}",
    ]
    assert somebody.question is None and len(changes) == 3


def test_a_form_with_mistakes_leaves_the_question_open():
    somebody, _ = person()
    future = somebody.submit(request())
    mistakes = somebody.answer("e/solver/0/easy#0", {"answer": ""})
    assert mistakes is not None and "answer" in mistakes.by_field
    assert not future.done()


def test_a_form_for_another_question_is_stale():
    somebody, _ = person()
    with pytest.raises(Stale):
        somebody.answer("e/solver/0/easy#0", {"answer": "7"})
    somebody.submit(request(n=2))
    assert somebody.answer("e/solver/0/easy#0", {"answer": "7"}) is None
    # The same form from a second tab.
    with pytest.raises(Stale):
        somebody.answer("e/solver/0/easy#0", {"answer": "9"})


def test_what_the_game_gives_up_is_not_asked_any_more():
    somebody, _ = person()
    with Dispatcher(lambda answered: None) as desk:
        desk.add(somebody, request())
        desk.add(somebody, request("e/solver/0/hard"))
        desk.pump()
        assert somebody.question is not None
    assert somebody.question is None


def test_a_person_can_give_up():
    somebody, _ = person()
    assert not somebody.give_up(RuntimeError())
    future = somebody.submit(request())
    assert somebody.give_up(RuntimeError("enough"))
    assert str(future.exception(0)) == "enough"
    assert somebody.question is None
