"""What all requests to one server know about it: is it up, and may it be asked now?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

log = logging.getLogger("mmzero")

# A server that comes and goes is not mentioned more often than this.
_SECONDS_BETWEEN_NOTES = 60.0


class Circuit:
    """The state of one server. To be used from one event loop.

    Attributes:
        epoch: Changes whenever the server may be another one than before: when it answers
            after it was down, and when a connection breaks.
    """

    def __init__(self, owner: str, url: str, hide: Callable[[str], str]) -> None:
        """See the class.

        Args:
            owner: Name of the policy, for notes.
            url: Of the server.
            hide: Takes keys out of a note.
        """
        self.epoch = 0
        self._owner, self._url, self._hide = owner, url, hide
        self._down_since: float | None = None
        self._not_before = 0.0
        self._noted = -_SECONDS_BETWEEN_NOTES
        self._answered = asyncio.Event()

    @property
    def down(self) -> bool:
        """Whether the last attempt found nobody."""
        return self._down_since is not None

    @property
    def held(self) -> float:
        """Seconds until the server wants to be asked again; 0 or less for now."""
        return self._not_before - time.monotonic()

    def hold(self, seconds: float) -> None:
        """Send nothing before so many seconds have passed."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def goes_down(self) -> None:
        """Nobody answered."""
        if self._down_since is None:
            self._down_since = time.monotonic()
            self._answered.clear()

    def comes_up(self) -> None:
        """Somebody answered: whoever waits for the server goes on."""
        if self._down_since is None:
            return
        seconds, self._down_since = time.monotonic() - self._down_since, None
        self.epoch += 1
        self._answered.set()
        log.info("%s: %s answers again after %.0f s", self._owner, self._url, seconds)

    async def answers(self, seconds: float) -> None:
        """Wait until the server is up, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._answered.wait()

    def note(self, text: str) -> None:
        """Say what is waited for, once in a while."""
        if time.monotonic() - self._noted >= _SECONDS_BETWEEN_NOTES:
            self._noted = time.monotonic()
            log.warning("%s: %s", self._owner, self._hide(text))
