"""What one request may spend on attempts and on waiting.

Two allowances for two kinds of trouble: ``patience`` seconds while a server is down or busy,
since every request would fail alike and it will come back; ``retries`` attempts when an
answer fails or cannot be used.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import cached_property

from agents.circuit import Circuit
from agents.endpoint_settings import EndpointSettings
from agents.http_faults import Fault
from agents.policy import PolicyError
from agents.usage import Tally

# The longest pause between attempts, as a multiple of the first.
_LONGEST_PAUSE = 20


class Budget:
    """The allowances of one request.

    Attributes:
        request_id: Of the request.
        attempts: Made so far.
    """

    def __init__(
        self, request_id: str, url: str, settings: EndpointSettings, circuit: Circuit, tally: Tally
    ) -> None:
        """See the class.

        Args:
            request_id: Seeds the jitter as well.
            url: Of the server, for messages.
            settings: The limits.
            circuit: State of the server.
            tally: Counts retries and waiting.
        """
        self.request_id, self.attempts = request_id, 0
        self._url, self._settings, self._circuit, self._tally = url, settings, circuit, tally
        self._faults, self._waited = 0, 0.0
        self._waiting_since: float | None = None

    @cached_property
    def _rng(self) -> random.Random:
        # Most requests need none, and a generator costs more than all the rest of this class.
        return random.Random(f"{self.request_id}/backoff")

    async def turn(self, owner: str) -> None:
        """Wait until the server's rate limits allow a request.

        Args:
            owner: Name of the policy, for messages.

        Raises:
            PolicyError: If that takes longer than patience lasts.
        """
        while (left := self._circuit.held) > 0:
            if not self._can_wait(left):
                raise PolicyError(
                    f"request {self.request_id!r}: {owner} at {self._url} asks to wait "
                    f"{left:.0f} s more; patience is {self._settings.patience:g} s. Raise the "
                    "option patience, or lower max_open."
                )
            if left > _LONGEST_PAUSE * self._settings.backoff:
                self._circuit.note(f"{self._url} asks to wait {left:.0f} s (rate limit)")
            await self._wait(left + self._rng.uniform(0, self._settings.backoff))

    def report(self, fault: Fault, owner: str) -> str:
        """The last word on a request that got no answer."""
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        mend = fault.mend
        if fault.kind in ("answer", "broken"):
            what = f"gave no usable answer in {times}"
            mend = mend or "The option retries allows more."
        elif fault.kind == "busy":
            what = f"was too busy in {times}, waiting {self._waited:.0f} s"
        else:
            what = f"could not be reached in {times}, waiting {self._waited:.0f} s"
            mend = mend or (
                "Start the server, see that the URL is right, or raise the option patience."
            )
        return (
            f"request {self.request_id!r}: {owner} at {self._url} {what}; the last: "
            f"{fault.reason.rstrip('.')}. {mend}".rstrip()
        )

    def spent(self, fault: Fault) -> bool:
        """Whether to give up after an attempt that failed."""
        if fault.kind in ("answer", "broken"):
            self._waiting_since = None
            self._faults += 1
            return self._faults > self._settings.retries
        if not self._can_wait(fault.wait or 0):
            return True
        self._circuit.note(
            f"waiting for {self._url}: {fault.reason}; up to {self._settings.patience:g} s"
        )
        return False

    async def pause(self, fault: Fault) -> None:
        """Wait before another attempt; cut short when another request found the server up."""
        self._tally.add(retries=1)
        # The exponent is bounded, too: a patient request may make thousands of attempts.
        growth = min(2.0 ** min(self.attempts - 1, 10), _LONGEST_PAUSE)
        seconds = self._settings.backoff * growth * self._rng.uniform(0.5, 1)
        seconds = max(seconds, fault.wait or 0)
        if not self._circuit.down:
            await self._wait(seconds)
            return
        started = time.monotonic()
        await self._circuit.answers(seconds)
        self._count(time.monotonic() - started)

    def _can_wait(self, seconds: float) -> bool:
        """Whether patience covers another wait; it runs from the first one on."""
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        return now - self._waiting_since + seconds <= self._settings.patience

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._count(seconds)

    def _count(self, seconds: float) -> None:
        self._waited += seconds
        self._tally.add(seconds_waiting=seconds)
