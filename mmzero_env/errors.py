"""The error model: two kinds of exceptions, and model output is neither.

* :class:`UserError`: somebody asked for something that cannot be. The message
  says what was expected, what came, and how to mend it. The command line prints
  it without a traceback.
* :class:`EngineError`: something of ours failed (a worker, a server, a disk)
  after retries. A run stops with everything saved; no reward is ever invented.

What a model writes is data: parsers and renderers return a value or a
:class:`mmzero_env.protocol.Failure`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input of a person; the message names the mend."""


class EngineError(RuntimeError):
    """A failure of ours that retries did not cure."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of a closed set.

    Args:
        kind: What the name stands for, e.g. ``"reward design"``.
        name: What came.
        valid: Every name that would have been accepted.

    Returns:
        An error whose message lists the valid names and the nearest one.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}.")
