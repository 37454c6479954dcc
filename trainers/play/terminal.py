"""An episode as lines on a console, printed while it is played."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.status import Status
from rich.text import Text

from mmzero_env.infos import showable
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import (
    QUESTIONS,
    Drawing,
    EpisodeRewards,
    Failure,
    Image,
    Proposal,
    Request,
    Role,
    TurnReward,
    Vote,
)
from mmzero_env.record import image_to_png
from trainers.play import half_blocks
from trainers.play.events import (
    NAMES,
    Answered,
    Asked,
    Began,
    Coded,
    Drawn,
    Event,
    Proposed,
    Scored,
    doing,
)
from trainers.play.settings import HUMAN, PlaySettings, described
from trainers.play.writing import reasoning
from trainers.report import printable

COLOURS: Mapping[Role, str] = {"proposer": "magenta", "coder": "yellow", "solver": "cyan"}
LONGEST_CODE = 1500
"""Most characters of a code that are printed; a record holds all of it."""


class Terminal:
    """Prints what happens; coloured and with pictures where the console can, else plain lines.

    Attributes:
        console: Where everything goes.
    """

    def __init__(self, console: Console, settings: PlaySettings) -> None:
        """Note what is played; nothing is printed yet."""
        self.console = console
        self._settings = settings
        self._status: Status | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._proposal: Proposal | None = None
        self._waiting: dict[str, Request] = {}

    def tell(self, event: Event) -> None:
        """Print one event."""
        self.rest()
        if isinstance(event, Began):
            self.say(f"episode {event.id} · seed {event.seed} · topic: {event.topic}", "bold")
            self.say(described(self._settings), "dim")
            self._waiting.clear()
        elif isinstance(event, Asked):
            self._waiting[event.request.id] = event.request
        elif isinstance(event, Proposed):
            self._done("proposer")
            self._proposed(event)
        elif isinstance(event, Coded):
            self._done("coder")
            self._coded(event)
        elif isinstance(event, Drawn):
            self._drawn(event)
        elif isinstance(event, Answered):
            self._waiting.pop(event.request_id, None)
            self._answered(event)
        else:
            self._scored(event)
        self._work()

    def say(self, text: str, style: str = "", *, after: str = "") -> None:
        """Print a text of any origin: no markup, no control characters, nothing cut off.

        Args:
            text: What to print.
            style: Its style.
            after: Printed behind it, dimmed.
        """
        parts = (Text(self._plain(text), style), Text(self._plain(after), "dim"))
        self.console.print(Text.assemble(*parts), soft_wrap=not self.console.is_terminal)

    def _plain(self, text: str) -> str:
        return showable(printable(text), self.console.encoding)

    def heading(self, role: Role | None, text: str) -> None:
        """Print a line that begins a part."""
        colour = "" if role is None else COLOURS[role]
        self.say("")
        self.say(text, f"bold {colour}")

    def picture(self, image: Image, name: str) -> None:
        """Show a picture if the console can."""
        if half_blocks.can_show(self.console):
            self.say("")
            self.say(f"{name}:", "bold")
            self.console.print(half_blocks.drawn(image, half_blocks.columns(self.console)))
        else:
            height, width = image.shape[:2]
            self.say(f"{name}: {width} × {height} pixels (--out DIR keeps it as a file)")

    def picture_file(self, image: Image, name: str) -> Path:
        """Write a picture for a person who has to see it sharply; :meth:`close` removes it."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="mmzero-")
        path = Path(self._folder.name) / f"{name.lower().replace(' ', '-')}.png"
        path.write_bytes(image_to_png(image))
        return path

    def close(self) -> None:
        """Stop, and remove what was written for a person."""
        self.rest()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def failure(self, failure: Failure) -> None:
        """Print why something could not be used."""
        self.say(sentence(failure), "red")

    def rest(self) -> None:
        """End the line that says who is at work. Safe to repeat."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _work(self) -> None:
        """Say who is at work, on a terminal as a line that goes away."""
        agents = [r for r in self._waiting.values() if self._settings.specs[r.role] != HUMAN]
        if not agents or not self.console.is_terminal:
            return
        first = agents[0]
        count = sum(request.n for request in agents if request.role == first.role)
        name = self._settings.agents[first.role]
        text = f"{first.role.capitalize()} ({name}) is {doing(first.role, count)} …"
        self._status = self.console.status(Text(printable(text), COLOURS[first.role]))
        self._status.start()

    def _done(self, role: Role) -> None:
        for name in [n for n, request in self._waiting.items() if request.role == role]:
            del self._waiting[name]

    def _proposed(self, event: Proposed) -> None:
        self.heading("proposer", "Proposal")
        if isinstance(event.proposal, Failure):
            self.failure(event.proposal)
            self.say(event.text, "dim")
            return
        self._proposal = event.proposal
        self._fields(event.proposal, hidden=self._settings.secret)

    def _fields(self, proposal: Proposal, *, hidden: bool) -> None:
        shown = {"content type": proposal.content_type}
        if not hidden:
            shown["caption"] = proposal.caption
        for level in QUESTIONS:
            shown[f"{level} question"] = proposal.question(level)
            if not hidden:
                shown[f"{level} answer"] = getattr(proposal, f"{level}_answer")
        for name, value in shown.items():
            self.say(f"  {name + ':':<15} {value}")
        if hidden:
            self.say("  Caption, answers and code are shown once you have answered.", "dim")

    def _coded(self, event: Coded) -> None:
        count = self._settings.config.codes
        self.heading("coder", f"Code {event.index + 1} of {count}" if count > 1 else "Code")
        if self._settings.secret:
            return
        text = event.text if event.code is None else event.code
        self.say(text[:LONGEST_CODE], "dim")
        if len(text) > LONGEST_CODE:
            self.say(f"… {len(text) - LONGEST_CODE} more characters")

    def _drawn(self, event: Drawn) -> None:
        drawing = event.drawing
        name = self._name(event.index)
        if drawing.failure is not None:
            self.say(f"{name}: {sentence(drawing.failure)}", "red")
        elif drawing.image is not None and self._settings.specs["solver"] != HUMAN:
            self.picture(drawing.image, name)
        self.flags(drawing)

    def flags(self, drawing: Drawing) -> None:
        """Print what was changed before the drawing."""
        if drawing.flags:
            self.say(f"changed before drawing: {', '.join(drawing.flags)}", "dim")

    def _name(self, index: int) -> str:
        return f"Picture {index + 1}" if self._settings.config.codes > 1 else "Picture"

    def _answered(self, event: Answered) -> None:
        if isinstance(event.shown, int):
            where = f"about {self._name(event.shown).lower()}"
        else:
            where = NAMES[event.shown]
        self.heading("solver", f"Answers {where}, {event.question} question")
        if self._proposal is not None:
            self.say(f"  {self._proposal.question(event.question)}")
        for number, text in enumerate(event.texts, start=1):
            answer = extract_boxed(text)
            shown = "no answer in a box" if answer is None else answer or "an empty box"
            self.say(
                f"  {number}. {shown:<6}", "bold", after=f"  {' '.join(reasoning(text).split())}"
            )

    def _scored(self, event: Scored) -> None:
        if self._settings.secret and self._proposal is not None:
            self.heading("proposer", "What you did not see")
            self._fields(self._proposal, hidden=False)
            for index, code in enumerate(event.outcome.codes):
                self.say(f"  code {index + 1}: {(code.code or code.text)[:LONGEST_CODE]}", "dim")
        if event.outcome.codes:
            self.heading(None, "Votes")
            self._votes(event)
        self.heading(None, "Rewards")
        self._rewards(event.rewards)

    def _votes(self, event: Scored) -> None:
        for question, vote in event.rewards.blind_votes.items():
            self.say(f"  {NAMES['blind']}, {question}: {vote_text(vote)}")
        for question, vote in event.rewards.caption_votes.items():
            self.say(f"  {NAMES['caption']}, {question}: {vote_text(vote)}")
        for index, code in enumerate(event.rewards.codes):
            name = self._name(index).lower()
            for question, vote in code.votes.items():
                self.say(f"  {name}, {question}: {vote_text(vote)}")
                label = code.labels.get(question)
                if label is not None and label != vote:
                    self.say(f"  {name}, {question}: silver label {label.winner!r}")
        if self._proposal is not None:
            for question in QUESTIONS:
                proposed = getattr(self._proposal, f"{question}_answer")
                line = f"  proposed answer, {question}: {proposed!r}"
                if question in event.truth:
                    line += f", true answer: {event.truth[question]!r}"
                self.say(line)

    def _rewards(self, rewards: EpisodeRewards) -> None:
        self._reward("proposer", "Proposer", rewards.proposer)
        for index, code in enumerate(rewards.codes):
            self._reward("coder", f"Coder, {self._name(index).lower()}", code.coder)
        for index, code in enumerate(rewards.codes):
            for question, turns in code.solver.items():
                name = f"Solver, {self._name(index).lower()}, {question}"
                # Most answers of a group earn the same: one line for all of them.
                for turn in dict.fromkeys(map(_key, turns)):
                    numbers = [str(i) for i, t in enumerate(turns, start=1) if _key(t) == turn]
                    which = f", answer {', '.join(numbers)}" if len(turns) > 1 else ""
                    self._reward("solver", name + which, TurnReward(turn[0], dict(turn[1])))

    def _reward(self, role: Role, name: str, reward: TurnReward) -> None:
        terms = ", ".join(f"{term} {value:+.2f}" for term, value in reward.terms.items())
        self.say(f"  {name}: {reward.value:+.2f} ({terms})", COLOURS[role])


def _key(reward: TurnReward) -> tuple[float, tuple[tuple[str, float], ...]]:
    return reward.value, tuple(reward.terms.items())


def sentence(failure: Failure) -> str:
    """A failure for a person."""
    text = failure.reason.replace("_", " ")
    return f"{text}: {failure.detail}" if failure.detail else text


def vote_text(vote: Vote) -> str:
    """A vote for a person."""
    if not vote.valid:
        return f"none of {vote.total} answers counts"
    share = f"{vote.consistency:.0%} of {vote.valid} answers"
    unusable = vote.total - vote.valid
    return f"{vote.winner!r} with {share}" + (f", {unusable} unusable" if unusable else "")
