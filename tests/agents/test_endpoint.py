from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from agents.openai import OpenAIPolicy
from agents.policy import PolicyError, StreamingPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request, Sampling
from tests.agents.fake_model import CHAT
from tests.agents.fake_server import FakeServer, Step, alter, error, wait_for


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def make(server):
    made = []

    def policy(**options) -> OpenAIPolicy:
        options = {"backoff": 0.01, "retries": 3, **options}
        made.append(OpenAIPolicy(f"fake@{server.url}", **options))
        return made[-1]

    yield policy
    for one in made:
        one.close()


def ask(name: str = "r", **fields) -> Request:
    return Request(id=name, role="solver", prompt="How many?", seed=7, **fields)


GARBAGE = {
    "a web page": (Step(200, b"<html>", {"Content-Type": "text/html"}), "came text/html: '<html>'"),
    "no JSON": (Step(200, b"}{"), "damaged or cut off"),
    "cut JSON": (Step(cut=60), "the JSON of 60 bytes is damaged or cut off"),
    "a list": (Step(200, b"[1]"), r"expected a JSON object, came \[1\]"),
    "a torn response": (Step(torn=True), "the connection broke"),
    "a dropped connection": (Step(drop=True), "the connection broke"),
    "an empty body": (Step(200, b""), "the JSON of 0 bytes"),
    "500": (error(500, "engine died"), r"HTTP 500 \(engine died\)"),
    "504": (error(504, "gateway"), "HTTP 504"),
    "no choices": (alter(lambda a: a.pop("choices") and None), "expected a list of choices"),
    "choices of another kind": (alter(lambda a: a.update(choices=[1])), "list of choices"),
    "zero choices": (alter(lambda a: a.update(choices=[])), "expected 1 choices, came 0"),
    "too many choices": (alter(lambda a: a["choices"].append({})), "expected 1 choices, came 2"),
    "a wrong index": (alter(lambda a: a["choices"][0].update(index=3)), r"came \[3\]"),
    "no message": (alter(lambda a: a["choices"][0].pop("message") and None), "expected a message"),
    "no content": (
        alter(lambda a: a["choices"][0]["message"].update(content=None)),
        "expected text, came None",
    ),
    "a refusal": (
        alter(lambda a: a["choices"][0]["message"].update(content=None, refusal="I will not")),
        "came a refusal: 'I will not'",
    ),
    "content in parts": (
        alter(lambda a: a["choices"][0]["message"].update(content=[])),
        r"expected text, came \[\]",
    ),
}
for _reason in ("content_filter", "tool_calls", "abort", "error", None):
    GARBAGE[f"finish {_reason}"] = (
        alter(lambda a, r=_reason: a["choices"][0].update(finish_reason=r)),
        f"finish_reason 'stop' or 'length', came {_reason!r}",
    )


@pytest.mark.parametrize("name", GARBAGE)
def test_an_answer_that_cannot_be_used_is_asked_for_again_and_never_filled_in(server, make, name):
    step, reason = GARBAGE[name]
    policy = make()
    (good,) = policy.generate([ask()])
    server.script(CHAT, step, step)
    assert policy.generate([ask()])[0].completions == good.completions
    assert (policy.usage.requests, policy.usage.retries, policy.usage.failures) == (2, 2, 0)
    server.script(CHAT, *[step] * 4)
    with pytest.raises(PolicyError, match=f"request 'r': .*in 4 attempts; the last: .*{reason}"):
        policy.generate([ask()])
    assert policy.usage.failures == 1
    assert not server.complaints


def test_a_reasoning_model_that_ran_out_of_tokens_is_explained(server, make):
    def thinking(answer):
        message = {"role": "assistant", "content": None, "reasoning_content": "hm " * 40}
        answer["choices"][0].update(message=message, finish_reason="length")

    server.script(CHAT, alter(thinking))
    with pytest.raises(PolicyError, match="120 characters of reasoning.*Raise max_tokens, or let"):
        make(retries=0).generate([ask()])


def test_a_server_that_starts_late_is_waited_for_with_one_note(server, make, caplog):
    policy = make(max_open=4)
    server.stop()
    with caplog.at_level(logging.INFO, "mmzero"):
        futures = [policy.submit(ask(f"r{i}")) for i in range(8)]
        wait_for(lambda: policy.usage.retries > 8)
        server.start()
        answered = [future.result(timeout=60).request_id for future in futures]
    assert answered == [f"r{i}" for i in range(8)]
    notes = [r.getMessage() for r in caplog.records if r.name == "mmzero"]
    assert len(notes) == 2
    assert f"waiting for {server.url}/v1: connection refused; up to 600 s" in notes[0]
    assert "answers again" in notes[1]
    assert policy.usage.seconds_waiting > 0


def test_requests_survive_a_server_that_is_killed_while_they_run(server, make):
    policy = make(retries=1)
    server.script(CHAT, *[Step(wait=30)] * 3)
    futures = [policy.submit(ask(f"r{i}")) for i in range(3)]
    wait_for(lambda: server.open == 3)
    server.stop()
    wait_for(lambda: policy.usage.retries >= 6)
    server.start()
    assert [future.result(timeout=60).request_id for future in futures] == ["r0", "r1", "r2"]


def test_patience_ends(server, make):
    policy = make(patience=0.2)
    server.stop()
    started = time.monotonic()
    with pytest.raises(PolicyError, match="could not be reached in .*refused.*option patience"):
        policy.generate([ask()])
    assert 0.1 < time.monotonic() - started < 5
    assert policy.usage.failures == 1
    server.start()
    assert policy.generate([ask()])


def test_503_while_restarting_is_waited_for_and_costs_no_retries(server, make):
    server.script(CHAT, *[error(503, "loading")] * 5)
    policy = make(retries=0)
    assert policy.generate([ask()])
    assert policy.usage.retries == 5


def test_retry_after_holds_every_request_back(server, make):
    server.script(CHAT, error(429, "slow down", retry_after_ms="300", Retry_After="9"))
    policy = make(retries=0)
    started = time.monotonic()
    first = policy.submit(ask("a"))
    wait_for(lambda: policy.usage.retries == 1)
    second = policy.submit(ask("b"))
    first.result(timeout=5), second.result(timeout=5)
    assert 0.3 <= time.monotonic() - started < 3
    assert len(server.asked(CHAT)) == 3


def test_a_wait_beyond_patience_fails_at_once(server, make):
    server.script(CHAT, error(429, "slow down", Retry_After="3600"))
    with pytest.raises(PolicyError, match="too busy.*slow down.*Lower max_open, or raise patience"):
        make(patience=5).generate([ask()])


def test_an_exhausted_allowance_is_respected_before_the_server_complains(server, make):
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"}
    server.script(CHAT, Step(headers=spent))
    policy = make()
    policy.generate([ask("a")])
    started = time.monotonic()
    policy.generate([ask("b")])
    assert time.monotonic() - started > 0.15
    assert policy.usage.retries == 0


def test_an_account_without_money_is_not_waited_for(server, make):
    body = b'{"error": {"message": "quota", "code": "insufficient_quota"}}'
    server.script(CHAT, Step(429, body))
    with pytest.raises(PolicyError, match="no credit left"):
        make().generate([ask()])
    assert len(server.asked(CHAT)) == 1


def test_a_server_that_hangs_is_given_up_on(server, make):
    server.script(CHAT, Step(wait=30))
    policy = make(timeout=0.3, retries=1)
    assert policy.generate([ask()])
    server.script(CHAT, *[Step(wait=30)] * 2)
    with pytest.raises(PolicyError, match="no answer within 0.3 s.*option timeout"):
        policy.generate([ask()])


def test_a_slow_answer_is_an_answer(server, make):
    server.script(CHAT, Step(wait=0.3))
    policy = make(timeout=5)
    assert policy.generate([ask()])
    assert policy.usage.retries == 0


def test_no_more_requests_than_allowed_are_open(server, make):
    policy = make(max_open=3)
    server.script(CHAT, *[Step(wait=0.03)] * 12)
    done = policy.generate([ask(f"r{i}") for i in range(12)])
    assert [response.request_id for response in done] == [f"r{i}" for i in range(12)]
    assert server.most_open == 3


def test_cancelling_gives_a_request_up(server, make):
    server.script(CHAT, Step(wait=30))
    policy = make(max_open=1)
    future = policy.submit(ask())
    wait_for(lambda: server.open == 1)
    assert future.cancel()
    assert policy.generate([ask("next")])
    with pytest.raises(CancelledError):
        future.result()


def test_one_failure_ends_a_batch_without_waiting_for_the_rest(server, make):
    server.script(CHAT, Step(wait=30), error(400, "bad"))
    policy = make(max_open=2)
    started = time.monotonic()
    with pytest.raises(PolicyError, match="HTTP 400: bad"):
        policy.generate([ask("a"), ask("b")])
    assert time.monotonic() - started < 5


def test_closing_gives_up_what_is_open_and_leaves_no_thread(server, make):
    server.script(CHAT, Step(wait=30))
    policy = make(name="to be closed")
    assert isinstance(policy, StreamingPolicy)
    future = policy.submit(ask())
    wait_for(lambda: server.open == 1)
    policy.close()
    policy.close()
    with pytest.raises(PolicyError, match="to be closed was closed before it was answered"):
        future.result(timeout=5)
    with pytest.raises(PolicyError, match="is closed; make the policy again"):
        policy.submit(ask())
    assert "to be closed" not in {thread.name for thread in threading.enumerate()}


def test_closing_after_its_requests_were_cancelled_says_nothing(caplog):
    for _ in range(5):
        # Nobody listens there, so the requests wait for the server.
        policy = OpenAIPolicy("fake@http://127.0.0.1:1", patience=30)
        futures = [policy.submit(ask(str(number))) for number in range(8)]
        wait_for(lambda: "connection refused" in caplog.text)
        for future in futures:
            future.cancel()
        policy.close()
        del policy, futures
        gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_policy_that_is_forgotten_leaves_no_thread(server):
    policy = OpenAIPolicy(f"fake@{server.url}", name="forgotten")
    policy.generate([ask()])
    assert "forgotten" in {thread.name for thread in threading.enumerate()}
    del policy
    gc.collect()
    wait_for(lambda: "forgotten" not in {thread.name for thread in threading.enumerate()})


def test_many_threads_share_a_policy(server, make):
    policy = make()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: policy.generate([ask(f"r{i}")])[0].request_id, range(40)))
    assert done == [f"r{i}" for i in range(40)]
    assert policy.usage.requests == 40


def test_it_can_be_used_inside_a_running_event_loop(server, make):
    policy = make()

    async def inside():
        return await asyncio.wrap_future(policy.submit(ask()))

    assert asyncio.run(inside()).request_id == "r"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_makes_connections_of_its_own(server, make):
    policy = make()
    before = policy.generate([ask()])[0].completions
    server.script(CHAT, Step(wait=1.0))
    open_meanwhile = policy.submit(ask())
    wait_for(lambda: server.open == 1)
    child = os.fork()
    if child == 0:
        try:
            again = policy.generate([ask()])[0].completions
            gc.collect()
            os._exit(0 if again == before else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert open_meanwhile.result(timeout=5).completions == before
    assert policy.usage.retries == 0
    assert policy.generate([ask()])[0].completions == before


def test_a_proxy_of_the_environment_is_for_servers_elsewhere(server, make, monkeypatch):
    proxy = FakeServer()
    try:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert make().generate([ask()]) and not proxy.seen
        elsewhere = OpenAIPolicy("fake@http://server.invalid", backoff=0.01, retries=0)
        with pytest.raises(PolicyError, match="HTTP 404"):
            elsewhere.generate([ask()])
        elsewhere.close()
        assert proxy.asked(f"http://server.invalid{CHAT}")
    finally:
        proxy.stop()


def test_pickling_says_what_to_do_instead(server, make):
    with pytest.raises(TypeError, match="cannot be pickled; send its name"):
        pickle.dumps(make())


def test_usage_counts_what_was_charged(server, make):
    policy = make(prompt_price=2.0, completion_price=10.0)
    filtered = alter(lambda a: a["choices"][0].update(finish_reason="content_filter"))
    server.script(CHAT, filtered)
    policy.generate([ask()])
    usage = policy.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.retries) == (4, 10, 1)
    assert usage.cost == pytest.approx((4 * 2 + 10 * 10) / 1e6)
    assert make().usage.cost is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_open": 0}, "max_open must be at least 1, came 0"),
        ({"timeout": 0}, "timeout must be positive"),
        ({"backoff": -1}, "backoff must be positive"),
        ({"retries": -1}, "must not be negative"),
        ({"patience": -1}, "must not be negative"),
        ({"headers": {"X-API-Key": "k"}}, "environment variable and give its name as api_key_env"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        OpenAIPolicy("m@http://127.0.0.1:1", **options)


def test_requests_that_cannot_be_sampled(make):
    with pytest.raises(UserError, match="expected n >= 1"):
        make().submit(ask(n=0))
    with pytest.raises(UserError, match="top_p"):
        make().submit(ask(sampling=Sampling(top_p=0)))
