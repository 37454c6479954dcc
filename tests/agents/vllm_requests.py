"""What the tests of the vLLM client share."""

from __future__ import annotations

from pathlib import Path

import agents
from mmzero_env.protocol import Request, Sampling
from tests.agents.fake_model import GENERATE
from tests.agents.fake_server import FakeServer

NANO = Path(agents.__file__).parent / "nano" / "model"


def ask(name: str = "r", **fields) -> Request:
    fields = {"role": "solver", "prompt": "How many?", "seed": 7, **fields}
    return Request(id=name, **{"sampling": Sampling(max_tokens=9), **fields})


def sampled(server: FakeServer) -> list[dict]:
    """What was asked for, apart from the first look at a server."""
    seen = server.asked(GENERATE)
    return [s.body for s in seen if not s.headers["X-Request-Id"].startswith("probe")]
