from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from mmzero_env.errors import UserError
from trainers.play.server import LONGEST_BODY, PageServer, Refused


@pytest.fixture
def site():
    def refuse(body: Mapping[str, Any]) -> Any:
        raise Refused(http.HTTPStatus.CONFLICT, {"error": "busy"})

    server = PageServer(
        {"": ("text/html", "<p>page</p>"), "play.js": ("text/javascript", "1")},
        {"state": lambda query: {"query": dict(query)}},
        {"echo": lambda body: body, "refuse": refuse},
    )
    server.start()
    yield server
    server.close()


def ask(
    site: PageServer,
    name: str = "",
    method: str = "GET",
    body: bytes | None = None,
    path: str | None = None,
    **headers: str,
) -> tuple[int, Mapping[str, str], bytes]:
    url = urlsplit(site.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    given = {each.replace("_", "-"): value for each, value in headers.items()}
    connection.request(method, url.path + name if path is None else path, body, given)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def post(site: PageServer, name: str, body: object, **headers: str):
    usual = {"Origin": site.url.split("/", 3)[0] + "//" + urlsplit(site.url).netloc}
    usual["Content_Type"] = "application/json"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(site, name, "POST", data, **(usual | headers))


def test_files_and_calls_are_answered_under_the_secret_address(site):
    status, headers, body = ask(site)
    assert (status, body) == (200, b"<p>page</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert ask(site, "play.js")[0] == 200
    assert json.loads(ask(site, "state?after=3")[2]) == {"query": {"after": "3"}}
    assert json.loads(post(site, "echo", {"a": "ü"})[2]) == {"a": "ü"}
    assert post(site, "refuse", {})[0] == 409


@pytest.mark.parametrize(
    "path", ["/", "/play.js", "/x/", "//", "/../", "/{}/x/..", "*", "//[/", "/{}x/"]
)
def test_other_addresses_are_not_there(site, path):
    secret = urlsplit(site.url).path.strip("/")
    assert ask(site, path=path.format(secret))[0] == 404
    assert ask(site, "echo")[0] == 404
    assert post(site, "state", {})[0] == 404


def test_every_answer_forbids_what_is_not_needed(site):
    for status, headers, _ in (
        ask(site),
        ask(site, "state"),
        ask(site, path="/"),
        post(site, "echo", {}),
    ):
        policy = headers["Content-Security-Policy"]
        assert status and "default-src 'none'" in policy and "unsafe" not in policy
        assert "http" not in policy and "require-trusted-types-for 'script'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_was_rebound_to_this_machine_gets_nothing(site, host):
    assert ask(site, "state", Host=host)[0] == 421
    assert post(site, "echo", {}, Host=host, Origin=f"http://{host}")[0] == 421


def test_localhost_is_a_name_of_this_machine(site):
    name = f"localhost:{urlsplit(site.url).port}"
    assert ask(site, Host=name)[0] == 200
    assert post(site, "echo", {}, Host=name, Origin=f"http://{name}")[0] == 200


def test_another_page_cannot_change_anything(site):
    for origin in ("http://evil.example", "null", "", "https://127.0.0.1", "http://localhost:1"):
        assert post(site, "echo", {}, Origin=origin)[0] == 403
    # What a form of another page can send without being asked for permission.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert post(site, "echo", {}, Content_Type=kind)[0] == 415


def test_bodies_that_are_no_json_object_are_refused(site):
    assert post(site, "echo", b"{")[0] == 400
    assert post(site, "echo", [1])[0] == 400
    assert post(site, "echo", b"[" * 100_000)[0] == 400
    assert post(site, "echo", b"", Content_Length="-1")[0] == 411
    assert post(site, "echo", b"", Content_Length=str(LONGEST_BODY + 1))[0] == 413
    assert ask(site, method="PUT")[0] == 501


def test_it_listens_on_loopback_only(site):
    address = site._server.server_address
    assert address[0] == "127.0.0.1"


def test_a_taken_port_is_named(site):
    port = urlsplit(site.url).port
    assert port is not None
    with pytest.raises(UserError, match=f"--port {port} cannot be used"):
        PageServer({}, {}, {}, port)
    with pytest.raises(UserError, match="--port 70000 cannot be used"):
        PageServer({}, {}, {}, 70000)


def test_a_closed_server_lets_its_port_go(site):
    port = urlsplit(site.url).port
    site.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
