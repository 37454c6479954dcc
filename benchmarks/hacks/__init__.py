"""``mmzero bench hacks``: which reward designs pay players that cheat.

One module a role holds the adversaries (:mod:`.proposer_cheats`, :mod:`.coder_cheats`,
:mod:`.solver_cheats`), :mod:`.arms` plays and scores them beside honest players,
:mod:`.reader` is the Solver with eyes, :mod:`.costs` what honest players lose.
"""

from __future__ import annotations

from benchmarks.hacks import coder_cheats, proposer_cheats, solver_cheats

__all__ = ["coder_cheats", "proposer_cheats", "solver_cheats"]
