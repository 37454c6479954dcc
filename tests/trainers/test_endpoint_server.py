from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import numpy as np
import pytest

import agents
from agents.chat_format import data_url, user_message
from agents.policy import PolicyError
from mmzero_env.protocol import Completion, Request, Response, Sampling
from trainers.endpoint_server import EndpointServer, serving

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


class Echo:
    """A policy that says what it was asked."""

    name = "echo"

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.fails = False

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.batches.append(list(requests))
        self.hold.wait(10)
        if self.fails:
            raise PolicyError("out of memory")
        return [
            Response(r.id, tuple(Completion(f"{r.prompt} {k}", (1, 2)) for k in range(r.n)), (7,))
            for r in requests
        ]


def post(server: EndpointServer, **body: Any) -> dict[str, Any]:
    data = json.dumps({"model": "echo", **body}).encode()
    with urlopen(HttpRequest(f"{server.url}/chat/completions", data), timeout=20) as answer:
        return json.load(answer)


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_a_request_reaches_the_policy_as_it_was_sent() -> None:
    policy = Echo()
    with serving(policy, "echo") as server:
        assert server.url.startswith("http://127.0.0.1:")
        answer = post(
            server,
            messages=[user_message("why?", data_url(PICTURE))],
            n=2,
            seed=5,
            temperature=0.6,
            top_p=0.95,
            max_tokens=9,
        )
    (request,) = policy.batches[0]
    assert request.prompt == "why?" and request.n == 2 and request.seed == 5
    assert request.role == "solver" and request.sampling == Sampling(0.6, 0.95, 0, 9)
    assert request.image is not None and np.array_equal(request.image, PICTURE)
    assert [c["message"]["content"] for c in answer["choices"]] == ["why? 0", "why? 1"]
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}


def test_requests_that_come_meanwhile_are_answered_together() -> None:
    policy = Echo()
    policy.hold.clear()
    answers: dict[int, str] = {}
    with serving(policy, "echo") as server:

        def ask(i: int) -> None:
            found = post(server, messages=said(f"q{i}"))
            answers[i] = found["choices"][0]["message"]["content"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(9)]
        threads[0].start()
        while not policy.batches:
            pass
        for thread in threads[1:]:
            thread.start()
        while server._waiting.qsize() < 8:
            pass
        policy.hold.set()
        for thread in threads:
            thread.join(20)
    assert [len(batch) for batch in policy.batches] == [1, 8]
    assert answers == {i: f"q{i} 0" for i in range(9)}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"messages": said("x"), "model": "other"}, "the model served here is 'echo'"),
        ({"messages": said("x"), "stop": ["\n"]}, "does not know stop"),
        ({"messages": said("x"), "stream": True}, "does not stream"),
        ({"messages": said("x"), "n": 0}, "expected n >= 1"),
        ({"messages": said("x"), "n": 1.5}, "n expects a number of type int"),
        ({"messages": said("x"), "max_tokens": "9"}, "max_tokens expects a number"),
        ({"messages": [{"role": "system", "content": "x"}, *said("y")]}, "one user message"),
        ({"messages": []}, "one user message"),
        ({"messages": ["x"]}, "one user message"),
        ({"messages": [{"role": "user", "content": 3}]}, "came int"),
        ({"messages": [user_message("x", "http://example.org/a.png")]}, "must be a data URL"),
        ({"messages": [user_message("x", "data:image/png;base64,AAAA")]}, "cannot be read"),
    ],
)
def test_what_would_change_the_answer_is_refused(body: dict[str, Any], complaint: str) -> None:
    policy = Echo()
    with serving(policy, "echo") as server, pytest.raises(HTTPError) as refused:
        post(server, **body)
    assert refused.value.code == 400 and not policy.batches
    assert complaint in json.load(refused.value)["error"]["message"]


def test_two_pictures_are_refused_with_what_takes_them() -> None:
    url = data_url(PICTURE)
    message = user_message("x", url)
    message["content"].insert(0, message["content"][0])
    with serving(Echo(), "echo") as server, pytest.raises(HTTPError) as refused:
        post(server, messages=[message])
    assert "several pictures" in json.load(refused.value)["error"]["message"]


def test_a_policy_that_fails_is_an_error_of_the_server_and_remembered() -> None:
    policy = Echo()
    with serving(policy, "echo") as server:
        policy.fails = True
        with pytest.raises(HTTPError) as broken:
            post(server, messages=said("x"))
        assert broken.value.code == 500 and "out of memory" in str(server.failure)
        policy.fails = False
        assert post(server, messages=said("x"))["choices"]


def test_our_own_client_gets_from_it_what_the_policy_gives() -> None:
    nano = agents.make("nano")
    asked = [
        Request(f"r{i}", "solver", "How many?", seed=i, sampling=Sampling(max_tokens=12))
        for i in range(3)
    ]
    with serving(nano, "nano") as server:
        client = agents.make(f"openai:nano@{server.url}")
        assert isinstance(client, agents.Policy)
        got = [response.completions[0].text for response in client.generate(asked)]
        client.close()  # ty: ignore[unresolved-attribute]
    assert got == [response.completions[0].text for response in nano.generate(asked)]
