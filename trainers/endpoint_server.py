"""An OpenAI-compatible endpoint on this machine's loopback address, over any policy.

    with serving(agents.make("nano"), "nano") as server:
        print(server.url)  # http://127.0.0.1:PORT/v1

It lets software that speaks ``/v1/chat/completions`` ask a model that has no server of its own,
as ``mmzero eval`` does. Requests that come while the policy is busy wait and are then answered
together. It is no server for a network: no keys, one policy, loopback only. For load there is
vLLM (``mmzero serve``).

Taken are ``model``, one user message (text, or one picture as a data URL before the text),
``n``, ``seed``, ``temperature``, ``top_p``, ``top_k`` and ``max_tokens``. Everything else that
would change the answer is refused with status 400 rather than left out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import secrets
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image as PILImage

from agents.policy import Policy, check_request
from agents.registry import missing_extra
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Image, Request, Response, Role, Sampling

try:
    from aiohttp import web
except ModuleNotFoundError as error:
    raise missing_extra(error, "endpoint") from error

_MAX_BODY = 256 * 2**20
_BATCH = 256
"""Most requests that are handed to the policy together."""

_KNOWN = ("model", "messages", "n", "seed", "temperature", "top_p", "top_k", "stream") + (
    "max_tokens",
    "max_completion_tokens",
)


class EndpointServer:
    """The running server.

    Attributes:
        url: Base URL, ``http://127.0.0.1:PORT/v1``.
        model: The name that requests have to give.
        failure: The first failure of the policy, or None.
    """

    def __init__(self, policy: Policy, model: str, role: Role):
        self.url, self.model = "", model
        self.failure: Exception | None = None
        self._policy, self._role = policy, role
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Response]]]
        self._number = 0
        # One thread: a policy is asked for one batch at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="endpoint policy")

    async def run(self, ready: threading.Event, over: asyncio.Event) -> None:
        """Serve on a free port until told to stop.

        Args:
            ready: Set when :attr:`url` holds.
            over: Ends it.
        """
        self._waiting = asyncio.Queue()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        worker = asyncio.create_task(self._answer())
        ready.set()
        try:
            await over.wait()
        finally:
            worker.cancel()
            await runner.cleanup()
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def _models(self, _: web.Request) -> web.Response:
        entry = {"id": self.model, "object": "model", "owned_by": "mmzero"}
        return web.json_response({"object": "list", "data": [entry]})

    async def _chat(self, asked: web.Request) -> web.Response:
        try:
            body = await asked.json()
            self._number += 1
            request = read_request(body, self.model, self._role, f"http/{self._number}")
            check_request(request)
        except (UserError, ValueError) as error:
            return _error(400, str(error))
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        await self._waiting.put((request, future))
        try:
            response = await future
        except EngineError as error:
            return _error(500, str(error))
        return web.json_response(_body(response, self.model))

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            # What is being received at this moment belongs into the same batch.
            await asyncio.sleep(0.01)
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            requests = [request for request, _ in batch]
            try:
                responses = await loop.run_in_executor(
                    self._thread, self._policy.generate, requests
                )
            except Exception as error:
                self.failure = self.failure or error
                for _, future in batch:
                    if not future.done():
                        future.set_exception(EngineError(f"the policy failed: {error}"))
                continue
            for (_, future), response in zip(batch, responses, strict=True):
                if not future.done():
                    future.set_result(response)


@contextmanager
def serving(policy: Policy, model: str, *, role: Role = "solver") -> Generator[EndpointServer]:
    """Serve a policy from a thread of this process while the block runs.

    Args:
        policy: Who answers; it is not closed here.
        model: The name it is served under.
        role: Whom the policy plays.

    Raises:
        EngineError: If the server does not come up within ten seconds.
    """
    server = EndpointServer(policy, model, role)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.run(ready, over)),
        name="endpoint server",
        daemon=True,
    )
    thread.start()
    try:
        if not ready.wait(10):
            raise EngineError("the endpoint server did not come up on the loopback address")
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def read_request(body: Any, model: str, role: Role, name: str) -> Request:
    """A request of the policy from the body of a chat completion.

    Args:
        body: Parsed JSON.
        model: The name that is served.
        role: Whom the policy plays.
        name: Id of the request.

    Raises:
        UserError: If the body asks for something that a policy cannot give.
    """
    if not isinstance(body, Mapping):
        raise UserError(f"expected a JSON object, came {type(body).__name__}")
    unknown = sorted(set(body) - set(_KNOWN))
    if unknown:
        raise UserError(
            f"this endpoint does not know {', '.join(unknown)}; it knows {', '.join(_KNOWN)}"
        )
    if body.get("model") != model:
        raise UserError(f"the model served here is {model!r}, asked was {body.get('model')!r}")
    if body.get("stream"):
        raise UserError("this endpoint does not stream; leave stream out")
    prompt, image = _read_messages(body.get("messages"))
    longest = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
    return Request(
        id=name,
        role=role,
        prompt=prompt,
        n=_number(body, "n", int, 1),
        image=image,
        sampling=Sampling(
            temperature=_number(body, "temperature", float, 1.0),
            top_p=_number(body, "top_p", float, 1.0),
            top_k=_number(body, "top_k", int, 0),
            max_tokens=_number(body, longest, int, 1024),
        ),
        # As everywhere behind this API, no seed means another answer each time.
        seed=_number(body, "seed", int, secrets.randbelow(2**31)),
    )


def _number(body: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
        raise UserError(f"{name} expects a number of type {kind.__name__}, came {value!r}")
    return kind(value)


def _read_messages(messages: Any) -> tuple[str, Image | None]:
    one = isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], Mapping)
    if not one or messages[0].get("role") != "user":
        raise UserError("this endpoint takes one user message and nothing else")
    content = messages[0].get("content")
    if isinstance(content, str):
        return content, None
    parts: Any = content
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise UserError(f"expected a text or a list of parts, came {type(content).__name__}")
    kinds = [part.get("type") for part in parts]
    if kinds not in (["text"], ["image_url", "text"]):
        raise UserError(
            f"this endpoint takes one text, or one picture before one text; came {kinds}. Items "
            "with several pictures need a server that takes them, such as vLLM"
        )
    image = _read_picture(parts[0]["image_url"]) if len(parts) == 2 else None
    return str(parts[-1].get("text", "")), image


def _read_picture(part: Any) -> Image:
    """A picture from a data URL; on white where it is transparent."""
    url = part.get("url") if isinstance(part, Mapping) else None
    head, comma, data = str(url).partition(";base64,")
    if not comma or not head.startswith("data:image/"):
        raise UserError("a picture must be a data URL, data:image/…;base64,…")
    try:
        picture = PILImage.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGBA")
    except (binascii.Error, OSError, ValueError) as error:
        raise UserError(f"a picture cannot be read: {error}") from None
    ground = PILImage.new("RGBA", picture.size, "white")
    return np.asarray(PILImage.alpha_composite(ground, picture).convert("RGB"))


def _body(response: Response, model: str) -> dict[str, Any]:
    written = sum(len(done.token_ids) for done in response.completions)
    choices = [
        {
            "index": place,
            "message": {"role": "assistant", "content": done.text},
            "finish_reason": done.finish_reason,
        }
        for place, done in enumerate(response.completions)
    ]
    usage = {"prompt_tokens": len(response.prompt_ids), "completion_tokens": written}
    return {
        "id": response.request_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }


def _error(status: int, message: str) -> web.Response:
    kind = "invalid_request_error" if status == 400 else "server_error"
    return web.json_response({"error": {"message": message, "type": kind}}, status=status)
