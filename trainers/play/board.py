"""What the page shows: the episode so far as plain data, with a version that only grows."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mmzero_env.grading import equivalent
from mmzero_env.infos import failure_info
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import ROLES, Drawing, Failure, Image, Proposal, TurnReward
from mmzero_env.record import image_to_png
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
    Shown,
    doing,
    subject,
)
from trainers.play.page_person import PagePerson, Question
from trainers.play.settings import HUMAN, PlaySettings
from trainers.play.writing import reasoning

State = dict[str, Any]

_HIDDEN = ("caption", "easy_answer", "hard_answer")


class Board:
    """Collects events in one thread, is read by others.

    Attributes:
        person: Whose open question belongs to what is shown; set once, before the game.
        said: Set once somebody has read that nothing will come any more.
    """

    def __init__(self, settings: PlaySettings) -> None:
        """Begin with an empty board."""
        self.person: PagePerson | None = None
        self.said = threading.Event()
        self._settings = settings
        self._condition = threading.Condition()
        self._version = 0
        self._episode: State = {}
        self._waiting: dict[str, Asked] = {}
        self._phase = "loading"
        self._error = ""
        self._written: list[str] = []

    def tell(self, event: Event) -> None:
        """Take an event in."""
        with self._condition:
            self._take(event)
            self._touch()

    def changed(self) -> None:
        """What the person is asked changed."""
        with self._condition:
            self._touch()

    def end(self, error: str = "") -> None:
        """Nothing will come any more.

        Args:
            error: Why, if it is not what was wanted.
        """
        with self._condition:
            self._phase, self._error = "ended", error
            self._touch()

    def finish(self, written: list[str]) -> None:
        """The episode is over and kept.

        Args:
            written: Files that it was written to.
        """
        with self._condition:
            self._phase, self._written = "finished", written
            self._touch()

    def leave(self) -> bool:
        """Turn to the next episode; says no unless this one is over."""
        with self._condition:
            if self._phase != "finished":
                return False
            self._phase = "starting"
            self._touch()
            return True

    def state(self, after: int, timeout: float) -> State:
        """What is to be shown.

        Args:
            after: The version that is known; waits until there is a newer one.
            timeout: Longest wait, in seconds.

        Returns:
            JSON data. After the wait it may be of the version that is known.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._version > after, timeout)
            if self._phase == "ended":
                self.said.set()
            return self._state()

    def _touch(self) -> None:
        self._version += 1
        self._condition.notify_all()

    def _state(self) -> State:
        question = self.person.question if self.person is not None else None
        episode = self._episode
        if self._settings.secret and self._phase == "playing":
            episode = _without_secrets(episode)
        return {
            "version": self._version,
            "phase": self._phase,
            "error": self._error,
            "written": self._written,
            "players": {
                role: "you" if self._settings.specs[role] == HUMAN else self._settings.agents[role]
                for role in ROLES
            },
            "design": self._settings.design_name,
            "episode": episode,
            "thinking": self._thinking(),
            "ask": None
            if question is None
            else _ask(question, self._episode["topic"], self._settings.config.codes),
        }

    def _thinking(self) -> list[State]:
        """What agents are at work on, a line a role."""
        counts: dict[Any, int] = {}
        for asked in self._waiting.values():
            role = asked.request.role
            if self._settings.specs[role] != HUMAN:
                counts[role] = counts.get(role, 0) + asked.request.n
        return [
            {"role": role, "agent": self._settings.agents[role], "doing": doing(role, count)}
            for role, count in counts.items()
        ]

    def _take(self, event: Event) -> None:
        if isinstance(event, Began):
            self._phase, self._error, self._written = "playing", "", []
            self._waiting.clear()
            self._episode = {
                "id": event.id,
                # As text: a browser's numbers lose digits beyond 2^53.
                "seed": str(event.seed),
                "topic": event.topic,
                "proposal": None,
                "codes": [],
                "unseen": {},
            }
        elif isinstance(event, Asked):
            self._waiting[event.request.id] = event
        elif isinstance(event, Proposed):
            self._done("proposer")
            failed = isinstance(event.proposal, Failure)
            self._episode["proposal"] = {
                "text": event.text,
                "failure": failure_info(event.proposal) if failed else None,
                "fields": None if failed else asdict(event.proposal),
            }
        elif isinstance(event, Coded):
            self._done("coder")
            code = {"text": event.text if event.code is None else event.code, "answers": {}}
            self._episode["codes"].append({**code, "drawing": None})
        elif isinstance(event, Drawn):
            self._episode["codes"][event.index]["drawing"] = drawing_state(event.drawing)
        elif isinstance(event, Answered):
            self._waiting.pop(event.request_id, None)
            if isinstance(event.shown, int):
                where = self._episode["codes"][event.shown]["answers"]
            else:
                where = self._episode["unseen"].setdefault(
                    event.shown, {"title": f"Answers {NAMES[event.shown]}", "answers": {}}
                )["answers"]
            where[event.question] = [
                {"reasoning": reasoning(text), "answer": extract_boxed(text)}
                for text in event.texts
            ]
        else:
            self._score(event)

    def _done(self, role: str) -> None:
        for name in [n for n, asked in self._waiting.items() if asked.request.role == role]:
            del self._waiting[name]

    def _score(self, event: Scored) -> None:
        self._episode["reward"] = _reward(event.rewards.proposer)
        fields = (self._episode["proposal"] or {}).get("fields") or {}
        self._episode["truth"] = {
            level: {"answer": answer, "right": equivalent(fields[f"{level}_answer"], answer)}
            for level, answer in event.truth.items()
        }
        votes = {"caption": event.rewards.caption_votes, "blind": event.rewards.blind_votes}
        for name, card in self._episode["unseen"].items():
            card["votes"] = {level: asdict(vote) for level, vote in votes[name].items()}
        for code, rewards in zip(self._episode["codes"], event.rewards.codes, strict=True):
            code["reward"] = _reward(rewards.coder)
            code["votes"] = {level: asdict(vote) for level, vote in rewards.votes.items()}
            for level, turns in rewards.solver.items():
                for answer, turn in zip(code["answers"][level], turns, strict=True):
                    answer["reward"] = _reward(turn)


def drawing_state(drawing: Drawing) -> State:
    """A drawing as JSON data; its picture as the URI of a PNG."""
    return {
        "picture": None if drawing.image is None else picture_uri(drawing.image),
        "failure": failure_info(drawing.failure),
        "flags": list(drawing.flags),
    }


def picture_uri(image: Image) -> str:
    """A picture, uint8 of shape (H, W, 3), as the data URI of a PNG."""
    return "data:image/png;base64," + base64.b64encode(image_to_png(image)).decode("ascii")


def _reward(reward: TurnReward) -> State:
    terms = [{"name": name, "value": float(value)} for name, value in reward.terms.items()]
    return {"value": float(reward.value), "terms": terms}


def _ask(question: Question, topic: str, codes: int) -> State:
    """What the person has to do, with all that the role may know."""
    request = question.request
    ask: State = {
        "id": question.id,
        "role": request.role,
        "number": len(question.completions) + 1,
        "of": request.n,
        "topic": topic,
    }
    proposal = request.proposal
    if request.role == "solver":
        assert isinstance(proposal, Proposal)  # nothing is asked without one
        shown, level = subject(request)
        ask |= {
            "level": level,
            "from": _from(shown, codes),
            "question": proposal.question(level),
            "picture": None if request.image is None else picture_uri(request.image),
            "caption": proposal.caption if shown == "caption" else None,
        }
    return ask


def _from(shown: Shown, codes: int) -> str:
    if not isinstance(shown, int):
        return f" {NAMES[shown]}"
    return f" about picture {shown + 1}" if codes > 1 else ""


def _without_secrets(episode: Mapping[str, Any]) -> State:
    """The episode without what would give the answers away."""
    shown = dict(episode)
    proposal = episode.get("proposal")
    if proposal is not None and proposal["fields"] is not None:
        fields = {k: v for k, v in proposal["fields"].items() if k not in _HIDDEN}
        shown["proposal"] = {"text": "", "failure": None, "fields": fields}
    shown["codes"] = [{**code, "text": ""} for code in episode["codes"]]
    shown["hidden"] = True
    return shown
