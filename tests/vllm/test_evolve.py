"""An iteration of the loop that samples from a server of its own, killed on the way."""

from __future__ import annotations

import json
import os
import signal

from mmzero_env.protocol import ROLES
from tests.trainers.test_evolve import TINY
from trainers import config, evolve, players
from trainers.progress import SilentProgress

SMALL = {
    **TINY,
    "policy": "vllm",
    "lora_rank": "8",
    "coder.steps": "1",
    "probe.items": "6",
    "serve.max_model_len": "768",
    "serve.kv_cache_gb": "0.25",
}


class Killer(SilentProgress):
    """Kills the server when the Coder's stage begins."""

    def __init__(self) -> None:
        self.servers: list = []
        self.notes: list[str] = []

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        if name == "coder":
            os.kill(self.servers[0].pid, signal.SIGKILL)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_an_iteration_survives_the_death_of_its_server(tmp_path, monkeypatch) -> None:
    killer = Killer()

    def make_servers(*args, **kwargs):
        killer.servers = made(*args, **kwargs)
        return killer.servers

    made = players.make_servers
    monkeypatch.setattr(players, "make_servers", make_servers)
    monkeypatch.chdir(tmp_path)
    run = config.load("nano-cpu", {**SMALL, "out": str(tmp_path / "run")})
    evolve.run(run, resume=False, progress=killer)
    assert sum("starting it again" in note for note in killer.notes) == 1
    assert not any(server.running for server in killer.servers)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [row["stage"] for row in rows] == ["proposer", "coder", "solver", "solver"]
    # The canary compares trainer and engine before every step but the first of a stage.
    [row] = [row for row in rows if "canary_drift" in row]
    assert row["canary_drift"] < 1e-4
    for role in ROLES:
        assert (tmp_path / "run/checkpoints/iter-1" / role / "adapter_model.safetensors").is_file()
