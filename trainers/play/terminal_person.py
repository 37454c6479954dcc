"""A person at the terminal as a policy: asks one thing after the other and waits."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mmzero_env.errors import UserError
from mmzero_env.parsing import TAGS, extract_svg
from mmzero_env.protocol import (
    CONTENT_TYPES,
    Completion,
    Proposal,
    RenderJob,
    Request,
    Response,
)
from mmzero_env.rendering import JobRenderer
from trainers.play.events import subject
from trainers.play.settings import HUMAN
from trainers.play.terminal import Terminal, sentence
from trainers.play.writing import Mistakes, written

END = "."
"""A line with nothing but this ends a text of several lines."""

SKETCH = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300">
  <rect width="400" height="300" fill="white"/>

</svg>
"""
"""What an editor starts with."""

_HINTS = {
    "caption": "all that the Coder will know of the picture",
    "easy_question": "one look answers it",
    "easy_answer": "a number, a word or a short phrase",
    "hard_question": "it takes several steps, and the picture",
    "hard_answer": "a number, a word or a short phrase",
}


class TerminalPerson:
    """Plays the roles of a person.

    Attributes:
        name: For logs and records.
    """

    name = HUMAN

    def __init__(
        self,
        terminal: Terminal,
        renderer: JobRenderer,
        read: Callable[[str], str] = input,
        editor: str | None = None,
    ) -> None:
        """Note how to ask.

        Args:
            terminal: Prints what the person has to know.
            renderer: Draws previews.
            read: Prints a prompt and returns the next line; raises ``EOFError`` at the end.
            editor: Command that edits the file it is given; codes are typed line by line
                without one.
        """
        self._terminal = terminal
        self._renderer = renderer
        self._read = read
        self._editor = None if editor is None else shlex.split(editor)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Ask for every completion of every request.

        Raises:
            KeyboardInterrupt: If the input ends (Ctrl-D).
        """
        self._terminal.rest()
        try:
            return [self._respond(request) for request in requests]
        except EOFError:
            raise KeyboardInterrupt from None

    def _respond(self, request: Request) -> Response:
        ask = {"proposer": self._propose, "coder": self._code, "solver": self._answer}
        completions = []
        for number in range(1, request.n + 1):
            which = f" ({number} of {request.n})" if request.n > 1 else ""
            completions.append(Completion(ask[request.role](request, which)))
        return Response(request.id, tuple(completions))

    def _propose(self, request: Request, which: str) -> str:
        say = self._terminal.say
        self._terminal.heading("proposer", f"You are the Proposer{which}")
        say("Describe a picture inside the topic, and ask an easy and a hard question about it.")
        form: dict[str, str] = {}
        wanted: Sequence[str] = TAGS
        while True:
            for name in wanted:
                form[name] = self._content_type() if name == "content_type" else self._field(name)
            text = written("proposer", form)
            if isinstance(text, str):
                return text
            self._complain(text)
            wanted = [name for name in TAGS if name in text.by_field]

    def _content_type(self) -> str:
        numbered = ", ".join(f"{i} {name}" for i, name in enumerate(CONTENT_TYPES, start=1))
        answer = self._read(f"content type ({numbered}): ").strip()
        if answer.isdecimal() and 1 <= int(answer) <= len(CONTENT_TYPES):
            return CONTENT_TYPES[int(answer) - 1]
        return answer

    def _field(self, name: str) -> str:
        label = f"{name.replace('_', ' ')} ({_HINTS[name]})"
        if name != "caption":
            return self._read(f"{label}: ")
        self._terminal.say(f"{label}; a line with nothing but a dot ends it:")
        return self._lines()

    def _lines(self) -> str:
        lines = []
        while (line := self._read("")).strip() != END:
            lines.append(line)
        return "\n".join(lines)

    def _code(self, request: Request, which: str) -> str:
        self._terminal.heading("coder", f"You are the Coder{which}")
        svg = SKETCH
        while True:
            if self._editor is None:
                self._terminal.say(
                    "Write SVG that shows the caption; a line with nothing but a dot ends it:"
                )
                svg = self._lines()
            else:
                svg = self._edited(self._editor, svg)
            text = written("coder", {"svg": svg})
            if isinstance(text, Mistakes):
                self._complain(text)
                if self._editor is not None:
                    self._read("Enter opens the editor again: ")
                continue
            self._preview(text)
            if self._read("Enter hands it in, e and Enter changes it: ").strip().lower() != "e":
                return text

    def _preview(self, text: str) -> None:
        code = extract_svg(text)
        assert code is not None  # a text that was accepted holds one
        [drawing] = self._renderer.render([RenderJob("preview", code)])
        if drawing.failure is not None:
            self._terminal.say(f"It is not drawn: {sentence(drawing.failure)}", "red")
        elif drawing.image is not None:
            self._terminal.picture(drawing.image, "preview")
        self._terminal.flags(drawing)

    def _edited(self, editor: Sequence[str], svg: str) -> str:
        """What the person's editor leaves of a text."""
        with tempfile.TemporaryDirectory(prefix="mmzero-") as folder:
            path = Path(folder) / "picture.svg"
            path.write_text(svg, encoding="utf-8")
            try:
                done = subprocess.run([*editor, str(path)], check=False)
            except OSError as error:
                raise UserError(
                    f"--editor {shlex.join(editor)} cannot be started: {error.strerror}; expected "
                    "a command that edits the file it is given and ends."
                ) from error
            if done.returncode:
                raise UserError(f"--editor {shlex.join(editor)} ended with code {done.returncode}.")
            try:
                return path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"what the editor left cannot be read: {error}.") from error

    def _answer(self, request: Request, which: str) -> str:
        say = self._terminal.say
        shown, level = subject(request)
        proposal = request.proposal
        assert isinstance(proposal, Proposal)  # nothing is asked without one
        self._terminal.heading("solver", f"You are the Solver{which}")
        if shown == "caption":
            say(f"  caption: {proposal.caption}")
        elif request.image is None or shown == "blind":
            say("  Neither picture nor caption: what would you guess?")
        else:
            name = f"Picture {shown + 1}"
            self._terminal.picture(request.image, name)
            path = self._terminal.picture_file(request.image, name)
            say(f"Sharp, until the episode is over: {path}", "dim")
        say(f"{level} question: {proposal.question(level)}", "bold")
        form: dict[str, str] = {}
        while True:
            form["answer"] = self._read("answer (a number, a word or a short phrase): ")
            form["reasoning"] = self._read("how you found it (may be empty): ")
            text = written("solver", form)
            if isinstance(text, str):
                return text
            self._complain(text)

    def _complain(self, mistakes: Mistakes) -> None:
        for name, mistake in mistakes.by_field.items():
            self._terminal.say(f"{name.replace('_', ' ')}: {mistake}", "red")
