"""A FAKE chat endpoint: it answers by a function of the text and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str | None | int]
"""From the text of a request to the text of its answer, None for no content, or a status."""


class FakeEndpoint:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.down = False
        self.url = ""

    def texts(self) -> list[str]:
        return [body["messages"][0]["content"][-1]["text"] for body in self.bodies]


@contextmanager
def fake_endpoint(answer: Answer) -> Generator[FakeEndpoint]:
    fake = FakeEndpoint(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if fake.down:
                self._say(503, {"error": {"message": "down"}})
            else:
                self._say(200, {"object": "list", "data": [{"id": "fake"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.bodies.append(body)
            fake.keys.add(self.headers["authorization"])
            said = 503 if fake.down else fake.answer(body["messages"][0]["content"][-1]["text"])
            if isinstance(said, int):
                # 4xx, so that the client of lmms-eval does not pause between attempts.
                self._say(said, {"error": {"message": "refused on purpose"}})
                return
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            shape = {"id": "x", "object": "chat.completion", "created": 0, "model": "fake"}
            self._say(200, {**shape, "choices": [choice], "usage": usage})

        def _say(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
