"""The page's server: this machine only, one secret address, nothing but a few fixed answers.

Guards, each of which would do alone against one kind of attack: it listens on loopback;
every address begins with a secret; requests must name this host, so that a name that was
rebound to 127.0.0.1 does not get through; what changes something must come from the page
itself, as JSON; and the page may load nothing from elsewhere and run no script but its own.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from mmzero_env.errors import UserError

HOST = "127.0.0.1"
LONGEST_BODY = 2_000_000
"""Most bytes of a request: the longest form, and its escapes."""
_POLL = 0.05
"""Seconds between two looks whether to stop."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        # No script may turn text into markup, not even our own by mistake.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Refused(Exception):
    """A request is answered with an error.

    Attributes:
        status: The HTTP status.
        data: What the page is told.
    """

    def __init__(self, status: HTTPStatus, data: Mapping[str, Any]) -> None:
        """Keep both."""
        super().__init__(status)
        self.status = status
        self.data = data


Get = Callable[[Mapping[str, str]], Any]
Post = Callable[[Mapping[str, Any]], Any]


class PageServer:
    """Serves fixed files and a few calls until it is closed.

    Attributes:
        url: The address to open; it holds the secret.
    """

    def __init__(
        self,
        files: Mapping[str, tuple[str, str]],
        gets: Mapping[str, Get],
        posts: Mapping[str, Post],
        port: int = 0,
    ) -> None:
        """Listen; :meth:`start` begins to answer.

        Args:
            files: Media type and text by name; the name ``""`` is the page.
            gets: Reading calls by name: query in, JSON data out; called in any thread.
            posts: Changing calls by name: JSON object in, JSON data out; may raise
                :class:`Refused`.
            port: Where to listen; 0 finds a free port.

        Raises:
            UserError: If the port cannot be had.
        """
        secret = secrets.token_urlsafe(18)

        class Handler(_Handler):
            """Answers for this server."""

        Handler.secret, Handler.files = secret, files
        Handler.gets, Handler.posts = gets, posts
        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
            port = self._server.server_port
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port} cannot be used: {getattr(error, 'strerror', None) or error}; "
                "choose another one, or leave it out."
            ) from error
        self._server.daemon_threads = True
        Handler.names = (f"{HOST}:{port}", f"localhost:{port}")
        self.url = f"http://{HOST}:{port}/{secret}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), daemon=True
        )

    def start(self) -> None:
        """Answer from now on, in threads of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "mmzero"
    sys_version = ""
    timeout = 60
    secret: str
    names: tuple[str, ...]
    files: Mapping[str, tuple[str, str]]
    gets: Mapping[str, Get]
    posts: Mapping[str, Post]

    def do_GET(self) -> None:
        """Answer a file or a reading call."""
        try:
            name = self._name()
            if name in self.files:
                kind, text = self.files[name]
                self._send(HTTPStatus.OK, kind, text.encode("utf-8"))
            elif name in self.gets:
                query = parse_qs(self.path.partition("?")[2])
                self._send_json(HTTPStatus.OK, self.gets[name]({k: v[0] for k, v in query.items()}))
            else:
                raise _not_found()
        except Refused as refused:
            self._send_json(refused.status, refused.data)

    def do_POST(self) -> None:
        """Answer a changing call."""
        try:
            name = self._name()
            self._check_origin()
            body = self._body()
            if name not in self.posts:
                raise _not_found()
            self._send_json(HTTPStatus.OK, self.posts[name](body))
        except Refused as refused:
            # What was not read of the body must not be taken for the next request.
            self.close_connection = True
            self._send_json(refused.status, refused.data)

    def _name(self) -> str:
        """What is wanted, once it is clear that the page's own address was used."""
        if self.headers.get("Host", "") not in self.names:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, {"error": "not a name of this server"})
        parts = self.path.partition("?")[0].split("/")
        if len(parts) != 3 or not hmac.compare_digest(parts[1].encode(), self.secret.encode()):
            raise _not_found()
        return parts[2]

    def _check_origin(self) -> None:
        if self.headers.get("Origin", "") != f"http://{self.headers['Host']}":
            raise Refused(HTTPStatus.FORBIDDEN, {"error": "only the page itself may ask for this"})

    def _body(self) -> Mapping[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "expected JSON"})
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, {"error": "expected a Content-Length"})
        if int(length) > LONGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "too long"})
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, {"error": "expected JSON"}) from None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, {"error": "expected a JSON object"})
        return body

    def _send_json(self, status: HTTPStatus, data: Any) -> None:
        self._send(status, "application/json", json.dumps(data).encode("ascii"))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            # The page was closed or loaded again in the meantime.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for the game, and addresses hold the secret."""


def _not_found() -> Refused:
    return Refused(
        HTTPStatus.NOT_FOUND, {"error": "not here; open the address that mmzero play printed"}
    )
