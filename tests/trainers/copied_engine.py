"""An engine of copies of the nano model, which workers of a cluster make for themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import agents
from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.policy import roles_of
from mmzero_env.protocol import ROLES, Request, Response, Role


class CopiedEngine:
    """Plays with adapters from disk, its own or those that another one was told to load."""

    name = "copied"
    max_open = 64

    def __init__(self) -> None:
        self.shared = with_adapters(agents.make("nano"), AdapterSettings(4, 8), seed=99)  # type: ignore[arg-type]
        self.served: dict[Role, tuple[str, str]] = {}
        self.asked: list[str] = []

    def load_adapter(self, role: Role | tuple[Role, ...], name: str, path: str) -> None:
        self.follow(dict.fromkeys(roles_of(role), (name, path)))

    def follow(self, adapters: Mapping[Role, tuple[str, str]]) -> None:
        for role, served in adapters.items():
            if self.served.get(role) != served:
                RoleView(self.shared, role).load_adapter(Path(served[1]))
                self.served[role] = served

    def score(self, request: Request, completion_ids: Sequence[int]) -> Any:
        return self.shared.score(request, completion_ids)

    def submit(self, request: Request) -> Future[Response]:
        self.asked.append(request.id)
        future: Future[Response] = Future()
        future.set_result(self.shared.generate([request])[0])
        return future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        return self.shared.generate(requests)

    def close(self) -> None:
        assert set(self.served) <= set(ROLES)


def register() -> None:
    """For the start of every worker."""
    agents.register("copied", lambda argument: CopiedEngine())
