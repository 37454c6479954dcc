"""Captions of earlier steps, for the reward term that punishes saying them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from mmzero_env.errors import UserError

VERSION = 1


class CaptionMemory:
    """What was proposed in the last steps, across iterations and restarts.

    It holds at most ``steps`` steps and ``captions`` captions; the oldest steps leave
    first, and of a step that is too large alone, its first captions.

    Args:
        steps: Steps that are kept. The published reward looks back at 5 calls
            (``proposer_reward.py``, CAPTION_MEMORY_MAX_STEPS).
        captions: Captions that are kept over all steps.

    Raises:
        UserError: If a bound is not a whole number of at least 1.

    Examples:
        >>> memory = CaptionMemory(steps=2)
        >>> for step in (["a map"], ["a table"], ["a chart", "a map"]):
        ...     memory.add(step)
        >>> memory.steps
        (('a table',), ('a chart', 'a map'))
    """

    def __init__(self, steps: int = 5, captions: int = 10_000) -> None:
        for name, value in (("steps", steps), ("captions", captions)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name} must be a whole number of at least 1, got {value!r}.")
        self._most = captions
        self._steps: deque[tuple[str, ...]] = deque(maxlen=steps)

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Captions by step, oldest first: the ``memory`` of :meth:`RewardDesign.score`."""
        return tuple(self._steps)

    def __len__(self) -> int:
        """How many captions are kept."""
        return sum(map(len, self._steps))

    def add(self, captions: Iterable[str]) -> None:
        """Remember the captions of one step, also if there are none."""
        self._steps.append(tuple(captions)[-self._most :])
        while len(self) > self._most:
            self._steps.popleft()

    def state_dict(self) -> dict[str, Any]:
        """The content as plain data, fit for JSON."""
        return {"version": VERSION, "steps": [list(step) for step in self._steps]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the content by a saved one, cut to this memory's bounds.

        Raises:
            UserError: If it is not what :meth:`state_dict` gives; the content is
                unchanged then.
        """
        steps = state.get("steps") if isinstance(state, Mapping) else None
        if (
            not isinstance(steps, list)
            or state.get("version") != VERSION
            or not all(isinstance(step, list) for step in steps)
            or not all(isinstance(caption, str) for step in steps for caption in step)
        ):
            raise UserError(
                f"a caption memory is restored from {{'version': {VERSION}, 'steps': [[str, "
                f"...], ...]}}, got {state!r:.200}"
            )
        self._steps.clear()
        for step in steps:
            self.add(step)
