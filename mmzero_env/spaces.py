"""The space of what a language model may say, also across processes.

Gymnasium's asynchronous vector environments hand observations over in shared memory.
For its own ``Text`` they read that memory once, before anything was written, and every
later text stays what it was then. :class:`Utterance` brings handlers of its own, so
``gymnasium.make_vec(..., vectorization_mode="async")`` needs no option.
"""

from __future__ import annotations

import multiprocessing
import string
from collections.abc import Sequence
from multiprocessing.heap import BufferWrapper
from typing import Any, overload

import numpy as np
from gymnasium.spaces import Text
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

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

    Examples:
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


_LENGTH = 8  # bytes of the length that stands before each text
_WIDEST = 4  # bytes of the longest character in UTF-8
# Lone surrogates are legal in a str and in model output.
_CODEC = ("utf-8", "surrogatepass")


class SharedTexts(Sequence[str]):
    """The texts of several environments in one block of shared memory, read when asked.

    A slot holds eight bytes with the length and then the text in UTF-8. The block is as
    long as the longest texts could be; the operating system gives memory only to the
    part that has been written.

    A deep copy is a plain tuple of strings: that is what a vector environment returns,
    unless it was told not to copy.

    Args:
        memory: What :func:`create_shared_memory` gave for an :class:`Utterance`.
        count: Number of environments.
        max_length: Longest text of the space, in characters.
    """

    def __init__(self, memory: BufferWrapper, count: int, max_length: int) -> None:
        self._memory = memory
        self._slot = _LENGTH + _WIDEST * max_length
        self._count = count

    def write(self, index: int, text: str) -> None:
        """Put the text of one environment into its slot."""
        data = text.encode(*_CODEC)
        view = self._memory.create_memoryview()
        at = index * self._slot
        view[at : at + _LENGTH] = len(data).to_bytes(_LENGTH, "little")
        view[at + _LENGTH : at + _LENGTH + len(data)] = data

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(self._count)))
        if not -self._count <= index < self._count:
            raise IndexError(f"there are {self._count} texts, asked for number {index}")
        view = self._memory.create_memoryview()
        at = index % self._count * self._slot
        length = int.from_bytes(view[at : at + _LENGTH], "little")
        return bytes(view[at + _LENGTH : at + _LENGTH + length]).decode(*_CODEC)

    def __len__(self) -> int:
        return self._count

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)


# Gymnasium's annotations know its own kinds of memory only; at run time any will do.
@create_shared_memory.register(Utterance)
def _create(space: Utterance, n: int = 1, ctx: Any = multiprocessing) -> Any:
    memory = BufferWrapper(n * (_LENGTH + _WIDEST * space.max_length))
    # A reused block still holds what was in it.
    texts = SharedTexts(memory, n, space.max_length)
    for index in range(n):
        texts.write(index, "")
    return memory


@read_from_shared_memory.register(Utterance)
def _read(space: Utterance, shared_memory: BufferWrapper, n: int = 1) -> Any:
    return SharedTexts(shared_memory, n, space.max_length)


@write_to_shared_memory.register(Utterance)
def _write(space: Utterance, index: int, values: str, shared_memory: BufferWrapper) -> None:
    SharedTexts(shared_memory, index + 1, space.max_length).write(index, values)
