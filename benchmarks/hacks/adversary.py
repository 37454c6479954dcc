"""Adversaries: what a role could write to be paid for something else than its work.

An adversary is one function of a request, of what the honest player would have written to
it, and of a random generator; its docstring says which hole it aims at. It knows no more
than a model in its role does. That it starts from the honest text makes the comparison
fair: a cheat that builds upon honest work fails as often as that does.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agents.policy import Policy
from mmzero_env.errors import unknown
from mmzero_env.protocol import ROLES, Completion, Request, Response, Role

Cheat = Callable[[Request, str, random.Random], str]
"""Writes one completion: request, honest completion, randomness of the sample."""


Places = Callable[[str, int], Collection[int]]
"""Numbers of some completions of a request, by its id and the number of all of them."""


@dataclass(frozen=True)
class Adversary:
    """One way to cheat in one role.

    Attributes:
        name: As it is asked for.
        role: Who cheats; the other two roles are honest.
        cheat: What it writes.
    """

    name: str
    role: Role
    cheat: Cheat

    @property
    def title(self) -> str:
        """What it writes, in one line."""
        return self._said[0]

    @property
    def hole(self) -> str:
        """Which hole it aims at."""
        return " ".join(" ".join(self._said[1:]).split())

    @property
    def _said(self) -> list[str]:
        return str(inspect.getdoc(self.cheat)).split("\n")


ADVERSARIES: dict[str, Adversary] = {}
"""Every adversary by name, in the order of tables."""


def adversary(role: Role) -> Callable[[Cheat], Cheat]:
    """Decorator: the function is an adversary of its own name."""

    def add(cheat: Cheat) -> Cheat:
        name = getattr(cheat, "__name__")  # noqa: B009 - a function has one
        ADVERSARIES[name] = Adversary(name, role, cheat)
        return cheat

    return add


def chosen(names: Sequence[str] = ()) -> list[Adversary]:
    """Adversaries by name, all of them by default; sorted by role.

    Raises:
        UserError: For a name that is none, with the list.
    """
    for name in names:
        if name not in ADVERSARIES:
            raise unknown("adversary", name, ADVERSARIES)
    found = [ADVERSARIES[name] for name in dict.fromkeys(names or ADVERSARIES)]
    return sorted(found, key=lambda each: ROLES.index(each.role))


@dataclass
class Cheating:
    """A policy some of whose completions are an adversary's.

    Attributes:
        honest: Plays everything first.
        adversary: Replaces completions.
        places: Which completions of a request it replaces.
        name: For logs.
    """

    honest: Policy
    adversary: Adversary
    places: Places
    name: str = "cheating"

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; equal requests get equal completions."""
        by_id: Mapping[str, Request] = {request.id: request for request in requests}
        responses = self.honest.generate(requests)
        return [self._with_cheats(by_id[each.request_id], each) for each in responses]

    def _with_cheats(self, request: Request, response: Response) -> Response:
        places = self.places(request.id, request.n)
        completions = [
            self._cheated(request, index, each) if index in places else each
            for index, each in enumerate(response.completions)
        ]
        return replace(response, completions=tuple(completions))

    def _cheated(self, request: Request, index: int, honest: Completion) -> Completion:
        rng = random.Random(f"{request.seed}/{index}/{self.adversary.name}")
        return Completion(self.adversary.cheat(request, honest.text, rng))


def everywhere(request_id: str, n: int) -> Collection[int]:
    """Places: all completions."""
    return range(n)


def half(request_id: str, n: int) -> Collection[int]:
    """Places: half of the completions, which ones depends on the request."""
    return random.Random(f"half of {request_id}").sample(range(n), n // 2)
