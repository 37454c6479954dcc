"""The one interface between the loop and whatever plays a role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Protocol, runtime_checkable

from mmzero_env.errors import EngineError, UserError, unknown
from mmzero_env.protocol import ROLES, Request, Response, Role


@runtime_checkable
class Policy(Protocol):
    """Plays one or more roles: requests in, completions with tokens out.

    A policy is batched from the start; a single request is a batch of one.
    """

    name: str
    """How the policy was named, for logs and records."""

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request.

        Args:
            requests: Any mix of roles, sampling settings, with or without image.

        Returns:
            One response a request, in the same order, each carrying the id of
            its request and exactly ``request.n`` completions. Equal requests
            with equal seeds get equal completions.

        Raises:
            PolicyError: If the engine behind the policy failed. A failure is never
                turned into an empty or a zero answer.
        """
        ...


@runtime_checkable
class StreamingPolicy(Policy, Protocol):
    """A policy whose engine batches on its own: requests go in singly, whenever they open."""

    max_open: int
    """Most requests that should be open at a time; more would only wait in front of the engine."""

    def submit(self, request: Request) -> Future[Response]:
        """Send a request off and return at once. Safe to call from any thread.

        Args:
            request: What to answer.

        Returns:
            A future of the response, which carries the request's id and exactly
            ``request.n`` completions. It raises :class:`PolicyError` when the engine failed
            for good, after whatever retries make sense. Cancelling it gives the request up.
        """
        ...

    def close(self) -> None:
        """Give up what is open and let go of connections. Safe to repeat."""
        ...


def answer_all(
    submit: Callable[[Request], Future[Response]], requests: Sequence[Request]
) -> list[Response]:
    """What ``generate`` is for a policy that streams: send everything off and wait for it.

    Args:
        submit: The policy's own.
        requests: What to answer.

    Returns:
        One response a request, in the same order.

    Raises:
        PolicyError: The first failure; what is still open is given up.
    """
    futures = [submit(request) for request in requests]
    try:
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


class PolicyError(EngineError):
    """The engine behind a policy failed; says what failed and how to mend it."""


def check_request(request: Request) -> None:
    """See that a request can be sampled at all.

    Raises:
        UserError: If its number of completions or its sampling is out of range.
    """
    sampling = request.sampling
    if (
        request.n < 1
        or sampling.max_tokens < 1
        or not sampling.temperature >= 0
        or not 0 < sampling.top_p <= 1
        or sampling.top_k < 0
    ):
        raise UserError(
            f"request {request.id}: expected n >= 1, max_tokens >= 1, temperature >= 0, "
            f"0 < top_p <= 1 and top_k >= 0, came n={request.n} and {sampling}"
        )


def roles_of(role: Role | tuple[Role, ...]) -> tuple[Role, ...]:
    """One role or several, as several.

    Raises:
        UserError: If one is none of the roles.
    """
    roles = role if isinstance(role, tuple) else (role,)
    for each in roles:
        if each not in ROLES:
            raise unknown("role", each, ROLES)
    return roles
