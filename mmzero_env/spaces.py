"""The space of what a language model may say."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Text

# Printable ASCII without the exotic white space (\t, \r, \v, \f) of string.printable.
_SAMPLED = string.digits + string.ascii_letters + string.punctuation + " \n"


class Utterance(Text):
    """Any string up to a length, in any script.

    ``gymnasium.spaces.Text`` contains only strings over a fixed character set and
    samples up to its full length. Real model output is Unicode, and a sample of a
    million characters takes seconds. This space contains every ``str`` that is
    short enough, the empty one included, and samples short printable ASCII.

    Args:
        max_length: Longest string of the space, in characters (code points).
        sample_length: Longest sample, in characters; capped by ``max_length``.
        seed: Seed or generator for :meth:`sample`.

    Example:
        >>> Utterance(8).contains("π ≈ 3.14")
        True
    """

    def __init__(
        self,
        max_length: int,
        *,
        sample_length: int = 64,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(max_length, min_length=0, charset=_SAMPLED, seed=seed)
        self.sample_length = min(int(sample_length), self.max_length)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A string of 0 to ``sample_length`` printable ASCII characters.

        Args:
            mask: As for ``gymnasium.spaces.Text``; None for a free sample.
            probability: As for ``gymnasium.spaces.Text``; None for a free sample.

        Returns:
            A member of the space.
        """
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        length = int(self.np_random.integers(self.sample_length + 1))
        picks = self.np_random.integers(len(_SAMPLED), size=length)
        return "".join(_SAMPLED[i] for i in picks)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string of at most ``max_length`` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """False: there is no finite alphabet to count over."""
        return False

    def __repr__(self) -> str:
        """How the space is written in Python."""
        return f"Utterance({self.max_length})"

    def __eq__(self, other: object, /) -> bool:
        """Equal are utterances of the same lengths; the random state does not count."""
        return (
            isinstance(other, Utterance)
            and self.max_length == other.max_length
            and self.sample_length == other.sample_length
        )

    __hash__ = None  # type: ignore[assignment]
