"""``mmzero serve`` with the real thing behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import agents
from mmzero_env.protocol import Request, Sampling


def test_serve_prints_an_agent_that_plays_and_stops_when_asked(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "trainers.cli", "serve", "--set", "serve.max_model_len=512"],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(Path.cwd())),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        spec = process.stdout.readline().strip()
        assert spec.startswith("vllm:nano@http://127.0.0.1:")
        policy = agents.make(spec)
        request = Request("a", "coder", "Draw a red circle.", sampling=Sampling(max_tokens=8))
        (response,) = policy.generate([request])
        assert response.completions[0].token_ids
        policy.close()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
        assert process.returncode == 0 and rest == ""
        assert said.endswith("stopping\n")
        assert list((tmp_path / "runs" / "serve").glob("vllm-*.log"))
    finally:
        process.kill()
        process.communicate()
