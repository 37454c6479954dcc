"""MM-Zero as an environment: three roles of one vision-language model train each other.

Importing this package registers ``mmzero/self-play-v0`` with PettingZoo, in its
turn-based and its parallel form, and ``mmzero/Proposer-v0``, ``mmzero/Coder-v0`` and
``mmzero/Solver-v0`` with Gymnasium, and ``mmzero/StructuredProposer-v0``, the Proposer for
algorithms that choose numbers instead of writing text.
"""

from __future__ import annotations

import gymnasium
import pettingzoo

__version__ = "0.1.0"

pettingzoo.register("aec", "mmzero/self-play-v0", entry_point="mmzero_env.self_play_v0:env")
pettingzoo.register(
    "parallel", "mmzero/self-play-v0", entry_point="mmzero_env.self_play_v0:parallel_env"
)
for _role in ("Proposer", "Coder", "Solver"):
    gymnasium.register(f"mmzero/{_role}-v0", entry_point=f"mmzero_env.single_role:{_role}")
gymnasium.register(
    "mmzero/StructuredProposer-v0",
    entry_point="mmzero_env.structured_proposer:StructuredProposer",
    max_episode_steps=64,
)
