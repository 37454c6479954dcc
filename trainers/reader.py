"""Who answers without a picture: the Solver that is trained, or the model that it began as."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from agents.policy import Policy, StreamingPolicy
from mmzero_env.protocol import Request, Response

SOLVER, BASE = READERS = ("solver", "base")
"""Settings of ``caption_reader``."""


class SplitSolver:
    """A Solver for questions about pictures, another one for questions without.

    A Solver that learns from labels which it reads from captions itself can drift together with
    them: what it comes to say of pictures it soon reads in captions too, and the label agrees. A
    reader that is not trained stays what it was.

    Attributes:
        name: That of the Solver, for logs.
    """

    def __init__(self, solver: Policy, reader: Policy):
        """Note who answers what.

        Args:
            solver: Answers requests with a picture.
            reader: Answers those without: from the caption, or blind.
        """
        self.name = solver.name
        self._solver, self._reader = solver, reader

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`; each of the two is asked once at most."""
        found: dict[str, Response] = {}
        for policy, shown in ((self._solver, True), (self._reader, False)):
            own = [request for request in requests if (request.image is not None) == shown]
            if own:
                found.update({response.request_id: response for response in policy.generate(own)})
        return [found[request.id] for request in requests]


class StreamingSplitSolver(SplitSolver):
    """The same of two policies that stream.

    Attributes:
        max_open: That of the Solver.
    """

    def __init__(self, solver: StreamingPolicy, reader: StreamingPolicy):
        """See :class:`SplitSolver`."""
        super().__init__(solver, reader)
        self.max_open = solver.max_open
        self._streams = {True: solver, False: reader}

    def submit(self, request: Request) -> Future[Response]:
        """See :meth:`agents.policy.StreamingPolicy.submit`."""
        return self._streams[request.image is not None].submit(request)

    def close(self) -> None:
        """Close both."""
        for policy in self._streams.values():
            policy.close()
