"""A server process that answers at once, to measure what its clients cost.

It speaks as much of ``/v1/chat/completions`` and of vLLM's tokens-in, tokens-out endpoint as
the policies need. There is no model behind it: every completion has the same words, or the
same tokens, with made-up log-probabilities.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Manner:
    """How it answers.

    Attributes:
        base: Served name of the model.
        root: Folder that a client finds the tokenizer in.
        probe: What it says that ``/tokenize`` gives, for any text.
        words: Text of every chat completion.
        tokens: Ids of every other completion.
        delay: Seconds that an answer takes; at 0 a client that is quick enough never has more
            than a few requests open.
    """

    base: str
    root: str
    probe: tuple[int, ...]
    words: str
    tokens: tuple[int, ...]
    delay: float


@contextmanager
def serving(manner: Manner) -> Generator[str]:
    """Serve in a process of its own; gives the URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, manner), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, manner: Manner) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(manner), "127.0.0.1", 0, backlog=1024
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class _Connection(asyncio.Protocol):
    """One connection: no pipelining, bodies with a length."""

    def __init__(self, manner: Manner) -> None:
        self._manner, self._came = manner, bytearray()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        end = self._came.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = bytes(self._came[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        length = int(headers.get("content-length", 0))
        if len(self._came) < end + 4 + length:
            return
        body = json.loads(self._came[end + 4 :]) if length else {}
        self._came.clear()
        answer = json.dumps(_answer(first.split()[1], body, headers, self._manner)).encode()
        head = (
            "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
            f"content-length: {len(answer)}\r\n\r\n"
        )
        self._loop.call_later(self._manner.delay, self._write, head.encode() + answer)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _answer(path: str, body: Any, headers: Mapping[str, str], manner: Manner) -> dict[str, Any]:
    if path == "/v1/models":
        return {"object": "list", "data": [{"id": manner.base, "root": manner.root}]}
    if path == "/tokenize":
        return {"count": len(manner.probe), "tokens": manner.probe}
    common = {"model": body["model"], "created": 0}
    if path == "/v1/chat/completions":
        message = {"role": "assistant", "content": manner.words, "tool_calls": []}
        choices = [
            {"index": k, "message": message, "logprobs": None, "finish_reason": "stop"}
            for k in range(body.get("n", 1))
        ]
        tokens = len(manner.words) // 4
        usage = {"prompt_tokens": 300, "completion_tokens": tokens, "total_tokens": 300 + tokens}
        return {**common, "id": "chat", "object": "chat.completion", "choices": choices} | {
            "usage": usage
        }
    params = body["sampling_params"]
    forced = [int(i) for i, bias in params.get("logit_bias", {}).items() if bias > 0]
    ids = forced or manner.tokens
    table = [
        {
            "token": f"token_id:{i}",
            "logprob": 0.0 if forced else -0.1234567 - i / 7000,
            "bytes": None,
            "top_logprobs": [],
        }
        for i in ids
    ]
    choices = [
        {"index": k, "token_ids": ids, "logprobs": {"content": table}, "finish_reason": "stop"}
        for k in range(params.get("n", 1))
    ]
    usage = {"prompt_tokens": len(body["token_ids"]), "completion_tokens": len(ids)}
    return {
        **common,
        "request_id": f"generate-tokens-{headers['x-request-id']}",
        "choices": choices,
        "prompt_token_ids": body["token_ids"],
        "prompt_logprobs": None,
        "usage": usage,
    }
