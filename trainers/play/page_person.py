"""A person at the page as a policy: one question at a time, answered from another thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from agents.policy import answer_all
from mmzero_env.protocol import Completion, Request, Response
from trainers.play.settings import HUMAN
from trainers.play.writing import Mistakes, written


@dataclass(eq=False)
class Question:
    """A request that a person is at work on.

    Attributes:
        request: What is asked.
        future: Is given the response when all completions are there.
        completions: Those that came so far.
    """

    request: Request
    future: Future[Response]
    completions: list[Completion] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Names the completion that is wanted next."""
        return f"{self.request.id}#{len(self.completions)}"


class Stale(Exception):
    """A form came for a question that is not open: it was answered before or given up."""


class PagePerson:
    """Plays the roles of a person; a :class:`agents.policy.StreamingPolicy`.

    Attributes:
        name: For logs and records.
        max_open: One thing at a time.
    """

    name = HUMAN
    max_open = 1

    def __init__(self, changed: Callable[[], None]) -> None:
        """Note whom to tell.

        Args:
            changed: Called in any thread when :attr:`question` became another one.
        """
        self._changed = changed
        self._lock = threading.Lock()
        self._open: deque[Question] = deque()

    @property
    def question(self) -> Question | None:
        """What the person is asked now."""
        with self._lock:
            # A question that was cancelled from outside is nobody's any more.
            while self._open and self._open[0].future.done():
                self._open.popleft()
            return self._open[0] if self._open else None

    def submit(self, request: Request) -> Future[Response]:
        """See :class:`agents.policy.StreamingPolicy`."""
        question = Question(request, Future())
        with self._lock:
            self._open.append(question)
        self._changed()
        return question.future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.policy.Policy`."""
        return answer_all(self.submit, requests)

    def answer(self, id: str, form: Mapping[str, str]) -> Mistakes | None:
        """Take a form.

        Args:
            id: The question that it answers.
            form: Texts by field.

        Returns:
            What has to be mended, or None if it was accepted.

        Raises:
            Stale: If another question, or none, is open.
        """
        question = self.question
        if question is None or question.id != id:
            raise Stale(id)
        text = written(question.request.role, form)
        if isinstance(text, Mistakes):
            return text
        with self._lock:
            if question.id != id:
                raise Stale(id)
            question.completions.append(Completion(text))
            done = len(question.completions) == question.request.n
        if done:
            try:
                question.future.set_result(
                    Response(question.request.id, tuple(question.completions))
                )
            except InvalidStateError:
                raise Stale(id) from None
        self._changed()
        return None

    def give_up(self, error: BaseException) -> bool:
        """End what is open with an error; says whether anything was."""
        question = self.question
        if question is None:
            return False
        try:
            question.future.set_exception(error)
        except InvalidStateError:
            return False
        self._changed()
        return True

    def close(self) -> None:
        """See :class:`agents.policy.StreamingPolicy`."""
        with self._lock:
            for question in self._open:
                question.future.cancel()
            self._open.clear()
