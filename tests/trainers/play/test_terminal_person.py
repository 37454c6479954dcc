from __future__ import annotations

import io
import os
import re
import select
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mmzero_env.errors import UserError
from mmzero_env.protocol import Proposal
from mmzero_env.rendering import Renderer
from trainers.play.game import Game
from trainers.play.settings import HUMAN, settle
from trainers.play.terminal import Terminal
from trainers.play.terminal_person import TerminalPerson

SVG = "<svg viewBox='0 0 9 9'>\n<rect width='5' height='9' fill='red'/>\n</svg>"
PROPOSAL = ["5", "A plan of two rooms:", "red 5, white 4", ".", "Which is red?", "5", "Total?", "9"]
CTRL_D = "\x04"


class Play:
    """An episode with a person whose lines are written down beforehand."""

    def __init__(self, people: tuple[str, ...], lines: list[str], **options) -> None:
        self.console = Console(file=io.StringIO(), width=100)
        players = {
            role: HUMAN if role in people else "scripted:oracle"
            for role in ("proposer", "coder", "solver")
        }
        editor = options.pop("editor", None)
        settings = settle(players, **options)
        self.asked: list[str] = []
        self.left: Iterator[str] = iter(lines)
        terminal = Terminal(self.console, settings)
        with Renderer(settings.image_size, workers=0) as renderer:
            person = TerminalPerson(terminal, renderer, self.read, editor)
            with Game(settings, renderer, person) as game:
                self.record = game.play(0, settings.topic_of(0), terminal.tell)
        folder = terminal._folder
        self.files = (
            {} if folder is None else {p.name: p.read_bytes() for p in Path(folder.name).iterdir()}
        )
        terminal.close()
        self.shown = self.console.file.getvalue()  # type: ignore[attr-defined]

    def read(self, prompt: str) -> str:
        self.asked.append(prompt)
        line = next(self.left, None)
        if line is None:
            # Not EOFError: that is Ctrl-D, and would stop the tests as well.
            raise AssertionError(f"no line was written down for {prompt!r}")
        if line == CTRL_D:
            raise EOFError
        return line


def test_a_person_plays_all_three_roles():
    lines = [*PROPOSAL, *SVG.splitlines(), ".", "", "red", "I looked", "9", ""]
    play = Play(("proposer", "coder", "solver"), lines)
    assert play.record["proposal"] == {
        "content_type": "map",
        "caption": "A plan of two rooms:\nred 5, white 4",
        "easy_question": "Which is red?",
        "easy_answer": "5",
        "hard_question": "Total?",
        "hard_answer": "9",
    }
    [code] = play.record["codes"]
    assert code["code"] == SVG
    assert code["png"] is not None
    assert code["answers"]["easy"] == ["<think>I looked</think>\\boxed{red}"]
    assert code["votes"]["hard"]["winner"] == "9"
    assert code["reward"]["terms"]["render"] == 1.0
    [path] = {Path(found) for found in re.findall(r"until the episode is over: (\S+)", play.shown)}
    assert play.files == {path.name: code["png"]}
    assert not path.exists()


def test_only_what_was_wrong_is_asked_again():
    wrong = ["no kind", *PROPOSAL[1:-1], "", "5", "9"]
    play = Play(("proposer",), wrong)
    assert "content type: Expected one of" in play.shown
    assert "hard answer: Please fill this in." in play.shown
    assert play.record["proposal"] is not None
    assert sum(prompt.startswith("hard question") for prompt in play.asked) == 1


def test_the_guards_reason_is_shown_and_the_picture_can_be_changed():
    play = Play(("coder",), ["<svg><script/>", ".", "e", *SVG.splitlines(), ".", ""])
    assert "It is not drawn: malformed xml" in play.shown
    assert play.record["codes"][0]["code"] == SVG


def test_what_is_not_drawn_may_be_handed_in():
    play = Play(("coder",), ["<svg", ".", ""])
    [code] = play.record["codes"]
    assert code["failure"] is not None and code["reward"]["value"] == pytest.approx(-0.1)


def test_a_person_gives_as_many_codes_and_answers_as_were_asked_for():
    solved = ["a", "", "b", "", "c", "", "d", ""]
    play = Play(
        ("coder", "solver"),
        [*[*SVG.splitlines(), ".", ""] * 2, *solved, *solved],
        codes=2,
        answers=2,
    )
    assert len(play.record["codes"]) == 2
    assert [len(a) for a in play.record["codes"][1]["answers"].values()] == [2, 2]
    assert "You are the Solver (2 of 2)" in play.shown


def test_a_solver_of_captions_reads_the_caption():
    play = Play(("solver",), ["x", ""] * 4, design="caption_grounded", codes=1)
    assert set(play.record["caption_answers"]) == {"easy", "hard"}
    proposal = Proposal(**play.record["proposal"])  # type: ignore[arg-type]
    assert f"caption: {proposal.caption}" in play.shown


def test_a_solver_who_is_shown_nothing_guesses_first():
    play = Play(("solver",), ["x", ""] * 5, design="audited", codes=1)
    assert play.record["blind_answers"] == {"hard": ["<think></think>\\boxed{x}"]}
    assert play.shown.index("what would you guess?") < play.shown.index("until the episode")
    assert "Answers without picture and caption, hard question" in play.shown


def test_an_editor_gets_a_sketch_and_keeps_what_was_written(tmp_path):
    program = tmp_path / "editor.py"
    program.write_text(
        "import sys\npath = sys.argv[-1]\ntext = open(path).read()\n"
        "assert '<svg' in text\n"
        "open(path, 'w').write(text.replace('</svg>', \"<circle r='40' fill='red'/></svg>\"))\n"
    )
    editor = shlex.join([sys.executable, str(program)])
    play = Play(("coder",), ["e", ""], editor=editor)
    code = play.record["codes"][0]["code"]
    assert code is not None and code.count("<circle") == 2


@pytest.mark.parametrize(
    ("editor", "expected"), [("/no/such/editor", "cannot be started"), ("false", "ended with code")]
)
def test_an_editor_that_fails_is_named(editor, expected):
    with pytest.raises(UserError, match=expected):
        Play(("coder",), [], editor=editor)


def test_the_end_of_the_input_stops_the_game():
    with pytest.raises(KeyboardInterrupt):
        Play(("proposer",), [*PROPOSAL[:3], CTRL_D])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_real_terminal_asks_shows_the_picture_in_colour_and_ends_on_ctrl_d():
    import pty

    words = ["--proposer=scripted:oracle", "--coder=human", "--solver=scripted:oracle"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        os.execv(sys.executable, [sys.executable, "-m", "trainers.cli", "play", *words])
    seen = b""
    steps = [
        (
            b"ends it:",
            b"<svg viewBox='0 0 9 9'><rect width='9' height='9' fill='#010203'/></svg>\n.\n",
        ),
        (b"hands it in", b"e\n"),
        (b"ends it:", b"\x04"),
    ]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            break
        if steps and steps[0][0] in seen[-200:]:
            os.write(terminal, steps.pop(0)[1])
            seen += b"\n" * 200
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"38;2;1;2;3" in seen and "▀".encode() in seen
    assert b"stopped." in seen and b"Traceback" not in seen
