"""A FAKE model server for tests: there is no model in it.

It answers like an OpenAI-compatible endpoint and like vLLM 0.31 with
``--enable-scale-out --enable-lora``, with words and log-probabilities drawn at random from the
seed of a request. It is stricter than either: a field it does not know, a value of a wrong
type, an image that is not a PNG or a message in another layout is refused with status 400 and
kept in ``complaints``. ``/version`` says that it is a fake.

Steps misbehave: ``server.script(path, step, …)`` gives one step to each of the next requests.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents.fake_model import Complaint, FakeModel


@dataclass(frozen=True)
class Step:
    """How one request is treated."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drop: bool = False
    cut: int | None = None
    torn: bool = False
    alter: Callable[[dict[str, Any]], Any] | None = None


def error(status: int, message: str, **headers: str) -> Step:
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": status}})
    return Step(status, body.encode(), {k.replace("_", "-"): v for k, v in headers.items()})


def alter(change: Callable[[dict[str, Any]], Any]) -> Step:
    """Changes the answer; what ``change`` returns, if anything, replaces it."""
    return Step(alter=change)


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeServer(FakeModel):
    """One server on a loopback port of its own."""

    def __init__(self, tokenizer: Any = None, *, base: str = "fake", root: str = "fake") -> None:
        super().__init__(tokenizer, base=base, root=root)
        self.api_key: str | None = None
        self.seen: list[Seen] = []
        self.complaints: list[str] = []
        self.open = self.most_open = 0
        self._steps: dict[str, deque[Step]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._stopping.clear()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._http = _Http(("127.0.0.1", self._port), handler)
        self._port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Like a server that is killed: connections are refused from now on."""
        # The door first: who is cut off would otherwise be let in once more and cut off again.
        self._http.shutdown()
        self._http.server_close()
        self._stopping.set()

    def script(self, path: str, *steps: Step) -> None:
        self._steps[path].extend(steps)

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def next_step(self, path: str) -> Step:
        with self._lock:
            return self._steps[path].popleft() if self._steps[path] else Step()


class _Http(ThreadingHTTPServer):
    # With the usual 5, the sixth client at a time would wait a second for its connection.
    request_queue_size = 256
    daemon_threads, block_on_close = True, False


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    fake: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle({})

    def do_POST(self) -> None:
        if self.headers.get("Content-Type") != "application/json":
            self._send(415, b"expected application/json", {})
            return
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _handle(self, body: dict[str, Any]) -> None:
        fake = self.fake
        if fake._stopping.is_set():
            self.close_connection = True
            return
        with fake._lock:
            fake.seen.append(Seen(self.path, dict(self.headers), body))
            fake.open += 1
            fake.most_open = max(fake.most_open, fake.open)
        try:
            self._answer(body, fake.next_step(self.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with fake._lock:
                fake.open -= 1

    def _answer(self, body: dict[str, Any], step: Step) -> None:
        if step.wait:
            self.fake._stopping.wait(step.wait)
        if step.drop or self.fake._stopping.is_set():
            self.close_connection = True
            return
        status, headers = step.status, dict(step.headers)
        content = step.body
        if content is None:
            status, answer = self._real(body)
            if step.alter is not None:
                changed = step.alter(answer)
                answer = answer if changed is None else changed
            plain = isinstance(answer, str)
            content = answer.encode() if plain else json.dumps(answer).encode()
            headers.setdefault("Content-Type", "text/plain" if plain else "application/json")
        if step.torn:
            headers["Content-Length"], content = str(len(content)), content[: len(content) // 2]
            self.close_connection = True
        self._send(status, content[: step.cut], headers)

    def _real(self, body: dict[str, Any]) -> tuple[int, Any]:
        fake = self.fake
        given = self.headers.get("Authorization")
        if fake.api_key and given != f"Bearer {fake.api_key}":
            return 401, {"error": {"message": f"Incorrect API key provided: {given}", "code": "x"}}
        try:
            return 200, fake.answer(self.path, body, self.headers.get("X-Request-Id", ""))
        except LookupError:
            return 404, {"detail": "Not Found"}
        except Complaint as complaint:
            if complaint.status == 400:
                fake.complaints.append(str(complaint))
            inner = {"message": str(complaint), "type": "x", "param": complaint.param}
            return complaint.status, {"error": {**inner, "code": complaint.status}}

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        usual = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**usual, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.005)
