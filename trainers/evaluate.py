"""True accuracy of every role on the probe."""

from __future__ import annotations

from collections.abc import Mapping

from agents.policy import Policy
from agents.probe import Estimate, Probe, Scores
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import Role
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from mmzero_env.world.probe import probe_items


def scores(policies: Mapping[Role, Policy], probe: Probe) -> Scores:
    """Every metric of every role, one score an item."""
    return {
        **probe.solver(policies["solver"]),
        **probe.coder(policies["coder"]),
        **probe.proposer(policies["proposer"]),
    }


def evaluate(
    policies: Mapping[Role, Policy],
    *,
    items: int = 300,
    samples: int = 8,
    seed: int = 0,
    prompts: str = "nano",
) -> dict[str, Estimate]:
    """Measure three policies on the probe.

    Args:
        policies: Who plays each role.
        items: Held-out pictures, at least one a kind of picture.
        samples: Completions an item where a metric averages samples.
        seed: Chooses the items.
        prompts: Prompt set that the policies understand.

    Returns:
        Each metric with its 95 % interval over items.
    """
    with Renderer(size=SIDE) as renderer:
        probe = Probe(probe_items(items, seed), get_prompts(prompts), renderer, samples=samples)
        return {name: Estimate.share(values) for name, values in scores(policies, probe).items()}
