"""The page: serves it, and plays one episode after another as it asks for them."""

from __future__ import annotations

import sys
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmzero_env.errors import EngineError, UserError
from mmzero_env.parsing import extract_svg
from mmzero_env.protocol import CONTENT_TYPES, TOPICS, RenderJob
from mmzero_env.rendering import JobRenderer, Renderer
from trainers.dispatcher import next_event
from trainers.play.board import Board, drawing_state
from trainers.play.game import Game
from trainers.play.keeping import Keeper
from trainers.play.page_person import PagePerson, Stale
from trainers.play.server import PageServer, Refused
from trainers.play.settings import PlaySettings
from trainers.play.writing import FIELDS, Mistakes, written

TEMPLATES = Path(__file__).parent.parent / "templates"
WAIT_SECONDS = 20.0
"""How long a page waits for news before it asks again."""
FAREWELL_SECONDS = 0.5
"""How long the server stays after the end, so that open pages get to know of it."""


@dataclass(frozen=True)
class Wish:
    """The episode that is wanted next."""

    seed: int
    topic: str


class _GivenUp(Exception):
    """The person does not want to finish the episode."""


def run(settings: PlaySettings, keeper: Keeper | None, *, port: int, show: bool) -> int:
    """Serve the page and play until Ctrl-C.

    Args:
        settings: What is played.
        keeper: Writes finished episodes, if they are to be kept.
        port: Where to listen; 0 finds a free port.
        show: Open the page in the browser, too.

    Returns:
        0 after Ctrl-C.

    Raises:
        UserError: If the port cannot be had or an agent cannot be made.
        EngineError: If an agent or the renderer failed; the page says so, too.
    """
    board = Board(settings)
    wishes: SimpleQueue[Wish] = SimpleQueue()
    with Renderer(settings.image_size) as renderer:
        person = PagePerson(board.changed) if settings.people else None
        board.person = person
        calls = _Calls(board, person, renderer, wishes)
        server = PageServer(
            _files(settings),
            {"state": calls.state},
            {
                "answer": calls.answer,
                "preview": calls.preview,
                "next": calls.next,
                "skip": calls.skip,
            },
            port,
        )
        try:
            print("loading the agents …", file=sys.stderr)
            with Game(settings, renderer, person) as game:
                server.start()
                print(f"Open {server.url}", flush=True)
                print("Ctrl-C ends it.", file=sys.stderr)
                if show:
                    webbrowser.open(server.url)
                _play(game, board, keeper, wishes)
        except KeyboardInterrupt:
            _take_leave(board)
            print("\nended.", file=sys.stderr)
            return 0
        except (EngineError, UserError) as error:
            _take_leave(board, str(error))
            raise
        finally:
            server.close()


def _take_leave(board: Board, error: str = "") -> None:
    """Tell the page that this is the end; the answers are on their way when it returns."""
    board.end(error)
    if board.said.wait(FAREWELL_SECONDS):
        time.sleep(FAREWELL_SECONDS / 2)


def _play(game: Game, board: Board, keeper: Keeper | None, wishes: SimpleQueue[Wish]) -> NoReturn:
    settings = game.settings
    wish = Wish(settings.seed, settings.topic_of(settings.seed))
    while True:
        try:
            record = game.play(wish.seed, wish.topic, board.tell)
        except _GivenUp:
            board.finish([])
        else:
            written = [] if keeper is None else keeper.keep(record)
            board.finish([str(path) for path in written])
        wish = next_event(wishes)


class _Calls:
    """What the page may call; every method runs in a thread of the server."""

    def __init__(
        self,
        board: Board,
        person: PagePerson | None,
        renderer: JobRenderer,
        wishes: SimpleQueue[Wish],
    ) -> None:
        self._board = board
        self._person = person
        self._renderer = renderer
        self._wishes = wishes

    def state(self, query: Mapping[str, str]) -> Any:
        """The state of the board, once it is newer than the one that the page has."""
        after = query.get("after", "")
        return self._board.state(-1 if (number := _whole(after)) is None else number, WAIT_SECONDS)

    def answer(self, body: Mapping[str, Any]) -> Any:
        """Take a form; a form with mistakes is answered with them."""
        form = {name: str(body.get(name) or "") for name in (n for f in FIELDS.values() for n in f)}
        try:
            mistakes = None if self._person is None else self._person.answer(str(body["ask"]), form)
        except (Stale, KeyError):
            raise Refused(
                HTTPStatus.CONFLICT, {"error": "This question is not open any more."}
            ) from None
        return {"mistakes": {} if mistakes is None else dict(mistakes.by_field)}

    def preview(self, body: Mapping[str, Any]) -> Any:
        """Draw what is typed, in the way in which it will be drawn."""
        text = written("coder", {"svg": str(body.get("svg") or "")})
        if isinstance(text, Mistakes):
            failure = {"stage": "form", "reason": "", "detail": text.by_field["svg"]}
            return {"picture": None, "failure": failure, "flags": []}
        code = extract_svg(text)
        assert code is not None  # a text that was accepted holds one
        try:
            [drawing] = self._renderer.render([RenderJob("preview", code)])
        except EngineError as error:
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}) from error
        return drawing_state(drawing)

    def next(self, body: Mapping[str, Any]) -> Any:
        """Begin another episode when the last one is over."""
        number, topic = _whole(str(body.get("seed", ""))), str(body.get("topic") or "")
        mistakes = {}
        if number is None:
            mistakes["seed"] = "Expected a whole number of at most 64 bits."
        if topic and topic not in TOPICS:
            mistakes["topic"] = f"Expected one of: {', '.join(TOPICS)}."
        if number is None or mistakes:
            return {"mistakes": mistakes}
        if not self._board.leave():
            raise Refused(HTTPStatus.CONFLICT, {"error": "An episode is being played."})
        self._wishes.put(Wish(number, topic or TOPICS[number % len(TOPICS)]))
        return {"mistakes": {}}

    def skip(self, body: Mapping[str, Any]) -> Any:
        """Give up the episode while the person is asked."""
        if self._person is None or not self._person.give_up(_GivenUp()):
            raise Refused(HTTPStatus.CONFLICT, {"error": "Nothing is waiting for you."})
        return {}


def _whole(text: str) -> int | None:
    """A whole number of 64 bits, or None."""
    try:
        number = int(text[:32])
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _files(settings: PlaySettings) -> Mapping[str, tuple[str, str]]:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("play.html").render(
        topics=TOPICS,
        chosen=settings.topic or "",
        content_types=CONTENT_TYPES,
        people=settings.people,
    )
    return {
        "": ("text/html", page),
        "play.css": ("text/css", (TEMPLATES / "play.css").read_text(encoding="utf-8")),
        "play.js": ("text/javascript", (TEMPLATES / "play.js").read_text(encoding="utf-8")),
    }
