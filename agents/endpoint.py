"""One HTTP server, asked politely and with patience.

An :class:`Endpoint` sends a request until there is a usable answer or no hope of one. It
waits while the server is down or busy, up to ``patience`` seconds a request; it repeats what
failed otherwise up to ``retries`` times; what the server refuses for good raises at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from agents.circuit import Circuit
from agents.endpoint_settings import EndpointSettings, checked_url
from agents.http_faults import (
    Fault,
    Refused,
    ServerError,
    Unusable,
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
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4.0)


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
        # A pool of httpx looks through all its connections for every request: with hundreds
        # open that costs 15 ms each. One client a connection costs none of it.
        self._idle: list[httpx.AsyncClient] = []
        self._clients: list[httpx.AsyncClient] = []
        self._tls = ssl.create_default_context() if self.url.startswith("https:") else None
        self._last_tokens = 1

    async def ask(
        self,
        path: str,
        parse: Callable[[Any], T | Unusable],
        *,
        request_id: str,
        body: Mapping[str, Any] | bytes | None = None,
        plain: bool = False,
    ) -> T:
        """Send a request until there is a usable answer.

        Args:
            path: Appended to the URL.
            parse: Reads the JSON object that came, or says why it cannot be used.
            request_id: For messages, and sent as ``X-Request-Id``.
            body: Posted as JSON, or the JSON itself; None sends a GET.
            plain: The answer is text, not JSON.

        Returns:
            What ``parse`` gave.

        Raises:
            Refused: If the server said no for good.
            PolicyError: If patience or retries ran out, or a key is missing.
        """
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        budget = Budget(request_id, self.url, self.settings, self.circuit, self._tally)
        try:
            return await budget.attempter()(self._attempt, path, content, parse, budget, plain)
        except Fault as fault:
            raise PolicyError(self._hidden(budget.report(fault, self._owner))) from None

    async def close(self) -> None:
        """Let go of all connections."""
        clients, self._clients, self._idle = self._clients, [], []
        await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)

    async def _attempt(
        self,
        path: str,
        content: bytes | None,
        parse: Callable[[Any], T | Unusable],
        budget: Budget,
        plain: bool,
    ) -> T:
        await budget.turn(self._owner)
        budget.attempts += 1
        try:
            response = await self._send(path, content, budget)
            wait = retry_after(response.headers, time.time())
            problem = from_status(response, response.content, wait)
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
            raise self._refused(path, response.status_code, problem, budget.request_id)
        data = response.text if plain else decode_json(response, response.content)
        if isinstance(data, Mapping):
            self._count(data)
        if (until := allowance(response.headers, self._last_tokens, time.time())) is not None:
            self.circuit.hold(until)
        if not isinstance(data, Unusable):
            data = parse(data)
        if isinstance(data, Unusable):
            raise Fault("answer", data.reason, data.mend)
        return data

    async def _send(self, path: str, content: bytes | None, budget: Budget) -> httpx.Response:
        """One request and the whole of its response."""
        s = self.settings
        # Attempts have names of their own: a server may still be busy with the one before.
        again = f"~retry{budget.attempts - 1}" if budget.attempts > 1 else ""
        headers = {
            "X-Request-Id": quote(budget.request_id, safe="/~") + again,
            **self._authorization(),
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        client = self._idle.pop() if self._idle else self._client()
        try:
            async with asyncio.timeout(s.timeout):
                return await client.request(
                    "GET" if content is None else "POST",
                    self.url + path,
                    content=content,
                    headers=headers,
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise from_exception(error, s.timeout, s.connect_timeout) from error
        finally:
            self._idle.append(client)

    def _client(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            headers=self.settings.headers,
            timeout=httpx.Timeout(None, connect=self.settings.connect_timeout),
            limits=_ONE_CONNECTION,
            verify=self._tls or False,
            # Proxies are for servers elsewhere.
            trust_env=httpx.URL(self.url).host not in ("127.0.0.1", "localhost", "::1"),
        )
        self._clients.append(client)
        return client

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

    def _count(self, data: Mapping[str, Any]) -> None:
        """Count the tokens of an answer, be it usable or not: they are charged."""
        usage = data.get("usage")
        counts = []
        for name in ("prompt_tokens", "completion_tokens"):
            value = usage.get(name) if isinstance(usage, Mapping) else None
            counts.append(value if isinstance(value, int) and value >= 0 else 0)
        self._tally.add(prompt_tokens=counts[0], completion_tokens=counts[1])
        if sum(counts):
            self._last_tokens = sum(counts)
