"""What policies behind HTTP servers have in common: requests go out one at a time, many at once."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

from agents.background import Background
from agents.endpoint import Endpoint
from agents.endpoint_settings import EndpointSettings
from agents.picture_urls import PictureUrls
from agents.policy import PolicyError, answer_all, check_request
from agents.usage import Prices, Tally, Usage
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request, Response

T = TypeVar("T")


class HttpPolicy(ABC):
    """A :class:`agents.policy.StreamingPolicy` over one or several servers.

    Safe to use from several threads, and after a fork, where connections are made anew.

    Attributes:
        name: For logs and records; holds no key.
        max_open: Most HTTP requests that are under way at a time.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        settings: EndpointSettings,
        *,
        max_open: int,
        prices: Prices,
    ) -> None:
        """See the class.

        Args:
            name: For logs and records.
            urls: Of the servers.
            settings: How to speak to them.
            max_open: See the attribute.
            prices: For :attr:`usage`.

        Raises:
            UserError: If a URL or a number cannot be.
        """
        if not isinstance(max_open, int) or max_open < 1:
            raise UserError(f"max_open must be at least 1, came {max_open!r}")
        self.name, self.max_open = name, max_open
        self._urls, self._settings = tuple(urls), settings
        self._tally = Tally(prices)
        self._background = Background(name)
        self._closing = False
        self._start()

    def _start(self) -> None:
        """Set up what belongs to one event loop; runs again in a forked process."""
        self._endpoints = [
            Endpoint(self.name, url, self._settings, self._tally) for url in self._urls
        ]
        self._pictures = PictureUrls()
        self._slots = asyncio.Semaphore(self.max_open)
        self._open: set[asyncio.Task[Response]] = set()

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._tally.snapshot()

    def submit(self, request: Request) -> Future[Response]:
        """Send a request off; see :meth:`agents.policy.StreamingPolicy.submit`.

        Raises:
            UserError: If this policy cannot sample as the request asks.
            PolicyError: After :meth:`close`.
        """
        check_request(request)
        self._check(request)
        if self._background.forked:
            self._start()
        return self._background.submit(self._watched(request))

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; see :meth:`agents.policy.Policy.generate`."""
        return answer_all(self.submit, requests)

    def close(self) -> None:
        """Give up what is open and let go of connections. Safe to repeat."""
        if self._background.running:
            with contextlib.suppress(PolicyError, TimeoutError):
                self._background.submit(self._shut()).result(timeout=10)
        self._background.close()

    @abstractmethod
    async def _answer(self, request: Request) -> Response:
        """Ask the server; runs on the event loop."""

    @abstractmethod
    def _check(self, request: Request) -> None:
        """Refuse, as a UserError, what this policy cannot sample."""

    async def _watched(self, request: Request) -> Response:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            response = await self._answer(request)
        except asyncio.CancelledError:
            if self._closing:
                raise PolicyError(
                    f"request {request.id!r}: {self.name} was closed before it was answered"
                ) from None
            raise
        except Exception:
            self._tally.add(failures=1)
            raise
        finally:
            self._open.discard(task)
        self._tally.add(requests=1)
        return response

    async def _shut(self) -> None:
        tasks = list(self._open)
        # Not before: a task that was cancelled by its caller must not end with an error that
        # nobody waits for.
        self._closing = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self._endpoints:
            await endpoint.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} holds open connections and cannot be pickled; "
            "send its name and make it there with agents.make"
        )


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once; when one fails, the others are cancelled and its error raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
