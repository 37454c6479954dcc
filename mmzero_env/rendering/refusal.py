"""How the parts of the guard say no to each other."""

from __future__ import annotations


class Refusal(Exception):
    """A document is not drawn. Never leaves the guard: it becomes a ``Failure``.

    Attributes:
        reason: Stable snake_case name.
        detail: One sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the name and the sentence."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
