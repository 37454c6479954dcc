"""One HTTP server, asked politely and with patience.

An :class:`Endpoint` sends a request until there is a usable answer or no hope of one. It
waits while the server is down or busy, up to ``patience`` seconds a request; it repeats what
failed otherwise up to ``retries`` times; what the server refuses for good raises at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from agents.circuit import Circuit
from agents.endpoint_settings import EndpointSettings, checked_url
from agents.http_faults import (
    JSON,
    Answer,
    Fault,
    Read,
    Refused,
    ServerError,
    Unusable,
    content_type,
    decode_json,
    from_exception,
    from_status,
    scrub,
)
from agents.policy import PolicyError
from agents.rate_limits import allowance, retry_after
from agents.retries import Budget
from agents.usage import Tally

T = TypeVar("T")

# Servers drop idle connections after 5 s (uvicorn); letting go first avoids broken requests.
_SECONDS_IDLE = 4.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Endpoint:
    """One server. To be used from one event loop.

    Attributes:
        url: What paths are appended to.
        settings: How it is spoken to.
        circuit: What is known about its state.
    """

    def __init__(self, owner: str, url: str, settings: EndpointSettings, tally: Tally) -> None:
        """See the class.

        Args:
            owner: Name of the policy, for messages.
            url: ``http://`` or ``https://``, host, port, path.
            settings: How to speak to it.
            tally: Counts.

        Raises:
            UserError: If the URL is not one.
        """
        self.url = checked_url(url)
        self.settings = settings
        self.circuit = Circuit(owner, self.url, self._hidden)
        self._owner, self._tally = owner, tally
        self._session: aiohttp.ClientSession | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_tokens = 1

    async def ask(
        self,
        path: str,
        parse: Callable[[Any], T | Unusable],
        *,
        request_id: str,
        body: Mapping[str, Any] | bytes | None = None,
        quick: Callable[[bytes], Read[T] | None] | None = None,
        plain: bool = False,
    ) -> T:
        """Send a request until there is a usable answer.

        Args:
            path: Appended to the URL.
            parse: Reads the JSON object that came, or says why it cannot be used.
            request_id: For messages, and sent as ``X-Request-Id``.
            body: Posted as JSON, or the JSON itself; None sends a GET.
            quick: Reads the JSON itself if it is as expected, and gives what ``parse`` would
                give; ``parse`` has the word on all that it gives None for.
            plain: The answer is text, not JSON.

        Returns:
            What ``parse`` or ``quick`` gave.

        Raises:
            Refused: If the server said no for good.
            PolicyError: If patience or retries ran out, or a key is missing.
        """
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        budget = Budget(request_id, self.url, self.settings, self.circuit, self._tally)
        while True:
            try:
                return await self._attempt(path, content, parse, quick, budget, plain)
            except Fault as fault:
                if budget.spent(fault):
                    text = self._hidden(budget.report(fault, self._owner))
                    raise PolicyError(text) from None
                failed = fault
            await budget.pause(failed)

    async def close(self) -> None:
        """Let go of all connections."""
        keeper, self._session, self._keeper = self._keeper, None, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _attempt(
        self,
        path: str,
        content: bytes | None,
        parse: Callable[[Any], T | Unusable],
        quick: Callable[[bytes], Read[T] | None] | None,
        budget: Budget,
        plain: bool,
    ) -> T:
        await budget.turn(self._owner)
        budget.attempts += 1
        try:
            answer = await self._send(path, content, budget)
            problem = None
            if answer.status != 200:
                problem = from_status(answer, retry_after(answer.headers, time.time()))
            if isinstance(problem, Fault):
                raise problem
        except Fault as fault:
            if fault.kind == "down":
                self.circuit.goes_down()
            if fault.kind == "broken":
                self.circuit.epoch += 1
            if fault.wait is not None:
                self.circuit.hold(fault.wait)
            raise
        self.circuit.comes_up()
        if isinstance(problem, ServerError):
            raise self._refused(path, answer.status, problem, budget.request_id)
        found = self._read(answer, parse, quick, plain)
        if (until := allowance(answer.headers, self._last_tokens, time.time())) is not None:
            self.circuit.hold(until)
        if isinstance(found, Unusable):
            raise Fault("answer", found.reason, found.mend)
        return found

    def _read(
        self,
        answer: Answer,
        parse: Callable[[Any], T | Unusable],
        quick: Callable[[bytes], Read[T] | None] | None,
        plain: bool,
    ) -> T | Unusable:
        """Count and read an answer; what the quick way does not take is read the other way."""
        if plain:
            return parse(answer.content.decode("utf-8", "replace"))
        if quick is not None and content_type(answer) == JSON:
            read = quick(answer.content)
            if read is not None:
                self._count(read.prompt_tokens, read.completion_tokens)
                return read.content
        data = decode_json(answer)
        if isinstance(data, Unusable):
            return data
        self._count(*_used(data))
        return parse(data)

    async def _send(self, path: str, content: bytes | None, budget: Budget) -> Answer:
        """One request and the whole of its response."""
        s = self.settings
        # Attempts have names of their own: a server may still be busy with the one before.
        again = f"~retry{budget.attempts - 1}" if budget.attempts > 1 else ""
        headers = {
            "X-Request-Id": quote(budget.request_id, safe="/~") + again,
            **self._authorization(),
        }
        if content is not None:
            headers["Content-Type"] = JSON
        if self._session is None:
            self._session = self._connect()
        try:
            async with self._session.request(
                "GET" if content is None else "POST",
                self.url + path,
                data=content,
                headers=headers,
                allow_redirects=False,
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise from_exception(error, s.timeout, s.connect_timeout) from error

    def _connect(self) -> aiohttp.ClientSession:
        s = self.settings
        session = aiohttp.ClientSession(
            # How many are open at a time is the policy's business.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_SECONDS_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=s.headers,
            proxy=_proxy(URL(self.url)),
            timeout=aiohttp.ClientTimeout(total=s.timeout, sock_connect=s.connect_timeout),
        )
        self._keeper = asyncio.create_task(_keep(session))
        return session

    def _authorization(self) -> dict[str, str]:
        key = self._key()
        if not key and self.settings.key_needed:
            raise PolicyError(
                f"{self._owner} needs a key: expected it in the environment variable "
                f"{self.settings.api_key_env}, which is not set. Set it, or name another "
                "variable with the option api_key_env."
            )
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        name = self.settings.api_key_env
        return os.environ.get(name, "").strip() if name else ""

    def _hidden(self, text: str) -> str:
        return scrub(text, (self._key(),))

    def _refused(self, path: str, status: int, error: ServerError, request_id: str) -> Refused:
        error = ServerError(self._hidden(error.message), error.code, error.param)
        return Refused(
            f"request {request_id!r}: {self._owner} at {self.url}{path} refused it: "
            f"HTTP {status}: {error.message.rstrip('.')}",
            status,
            error,
            request_id,
        )

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens of an answer, be it usable or not: they are charged."""
        self._tally.add(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        if prompt_tokens + completion_tokens:
            self._last_tokens = prompt_tokens + completion_tokens


def _used(data: Mapping[str, Any]) -> tuple[int, int]:
    """The tokens of prompt and completions that an answer says it took, 0 where it does not."""
    usage = data.get("usage")
    counts = []
    for name in ("prompt_tokens", "completion_tokens"):
        value = usage.get(name) if isinstance(usage, Mapping) else None
        counts.append(value if isinstance(value, int) and value >= 0 else 0)
    return counts[0], counts[1]


async def _keep(session: aiohttp.ClientSession) -> None:
    """Close a session when the loop ends, be its owner forgotten or not."""
    try:
        while True:
            # The loop itself refers to what sleeps on it; other tasks could be collected.
            await asyncio.sleep(3600)
    finally:
        await session.close()


def _proxy(url: URL) -> str | None:
    """The proxy that the environment names for a server elsewhere.

    aiohttp's own way (``trust_env``) would also send passwords from ``.netrc``.
    """
    host = url.host or ""
    if host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
