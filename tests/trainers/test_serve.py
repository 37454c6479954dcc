"""``mmzero serve`` against a stand-in that is not vLLM: see ``tests/agents/fake_vllm``."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from agents.vllm_settings import NANO
from mmzero_env.errors import UserError
from tests.agents.test_process_keeper import alive, needs_proc, until
from tests.agents.test_vllm_process import FAKE, ask
from trainers import cli, config

Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path):
    """Starts ``mmzero serve`` in a folder of its own; ends what a test leaves running."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = dict(os.environ, PYTHONPATH=f"{FAKE}{os.pathsep}{Path.cwd()}")
        process = subprocess.Popen(
            [sys.executable, "-m", "trainers.cli", "serve", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def model(tmp_path: Path):
    def make(**behaviour: Any) -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "fake.json").write_text(json.dumps(behaviour))
        return str(folder)

    return make


def agent(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports(spec: str) -> list[int]:
    return [int(url.rpartition(":")[2]) for url in spec.partition("@")[2].split(",")]


def pid_at(port: int, *, other_than: int = 0) -> int:
    """The process that answers at a port, once it is a new one."""
    found = [0]

    def answers() -> bool:
        try:
            found[0] = ask(port)["pid"]
        except (OSError, http.client.HTTPException):
            return False
        return found[0] != other_than

    assert until(answers)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_agent_serves_until_asked_to_stop_and_stops_its_servers(serve, number):
    process = serve("--preset", "nano-cpu", "--servers", "2")
    spec = agent(process)
    assert spec.startswith("vllm:nano@http://127.0.0.1:") and len(ports(spec)) == 2
    assert all(listening(port) for port in ports(spec))
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert "Ctrl-C stops" in said and said.endswith("stopping\n")
    assert not any(listening(port) for port in ports(spec))


def test_a_model_a_role_has_servers_a_role(serve, tmp_path):
    made = AutoConfig.from_pretrained(NANO)
    made.tie_word_embeddings = made.get_text_config().tie_word_embeddings = False
    made.save_pretrained(tmp_path / "untied")
    process = serve("--model", str(tmp_path / "untied"), "--set", "policy=vllm")
    spec = agent(process)
    assert spec.startswith(f"vllm:{tmp_path / 'untied'}@http://") and spec.count("|") == 2
    urls = spec.partition("@")[2].split("|")
    assert len({ask(int(url.rpartition(":")[2]))["pid"] for url in urls}) == 3


@needs_proc
def test_a_server_outlives_neither_a_killed_serve_nor_its_own_death(serve):
    process = serve()
    (port,) = ports(agent(process))
    first = pid_at(port)
    os.kill(first, signal.SIGKILL)
    second = pid_at(port, other_than=first)
    process.kill()
    assert until(lambda: not alive(second))
    process.wait()
    assert process.stderr is not None
    assert "ended by itself; starting it again (1 of 3" in process.stderr.read()


@needs_proc
def test_a_server_that_keeps_ending_stops_all_with_an_error(serve):
    process = serve("--servers", "2")
    bad, good = ports(agent(process))
    pid = 0
    for _ in range(4):
        pid = pid_at(bad, other_than=pid)
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ended again after 3 restarts" in said.splitlines()[-1]
    assert not listening(good)


def test_options_go_before_the_preset(serve, model):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = serve("--model", model(), "--port", str(port), "--set", "serve.max_model_len=64")
    assert agent(process) == f"vllm:{model()}@http://127.0.0.1:{port}"
    assert "--max-model-len 64" in " ".join(ask(port)["argv"])


def test_a_server_that_does_not_start_is_one_error_with_its_last_lines(serve, model):
    process = serve("--model", model(print="CUDA out of memory", end=1))
    out, said = process.communicate(timeout=30)
    assert process.returncode == 1 and out == ""
    assert said.startswith("error: the vLLM server at") and "lower gpu_memory" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "nano-gpu"], "unknown preset 'nano-gpu'. Did you mean 'nano-cpu'?"),
        (["--servers", "0"], "servers must be at least 1, got 0"),
        (["--gpus", "a"], "--gpus expects indices such as 0,1, got 'a'"),
        (["--gpus", "0"], "runs on the CPU"),
        (["--model", "./none"], "'./none' is not a folder"),
        (["--set", "serve.max_lora_rank=9"], "serve.max_lora_rank is one of 1, 8"),
        (["--set", "model=scripted:oracle"], "which vLLM cannot serve; name one: --model"),
        (["--python", "nowhere"], "'nowhere' cannot be run as a Python"),
        (["--set", "policy=vllm"], "nano ties its output layer to its embeddings, and vLLM 0.31"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_two(monkeypatch, capsys, tmp_path, arguments, said):
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("error: ") and shown.out == ""


def test_gpus_are_dealt_out_to_the_servers(monkeypatch):
    from trainers import serve as module

    def dealt(*gpus: int, **settings: str) -> tuple[int, list[list[int]]]:
        table, shares = module._shares(config.load("nano-cpu", settings), list(gpus), cpu=False)
        return table.servers, shares

    assert dealt() == (1, [[]])
    assert dealt(**{"serve.servers": "3"}) == (3, [[0], [1], [2]])
    assert dealt(4, 5) == (2, [[4], [5]])
    two = {"serve.tensor_parallel": "2"}
    assert dealt(0, 1, 2, 3, **two) == (2, [[0, 1], [2, 3]])
    assert dealt(0, 0, **{"serve.servers": "2"}) == (2, [[0], [0]])
    whole = {"policy": "vllm"}
    assert dealt(**whole) == (1, [[0], [1], [2]])
    assert dealt(*range(6), **whole) == (2, [[0], [1], [2], [3], [4], [5]])
    assert dealt(**whole, **two) == (1, [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(UserError, match="2 servers with tensor_parallel=2 need 4 GPUs"):
        dealt(0, 1, **{"serve.servers": "2"}, **two)


def test_the_base_model_follows_from_the_model_of_the_run():
    from trainers.serve import base_of

    assert base_of("nano") == "nano"
    assert base_of("transformers:Qwen/Qwen3-VL-4B-Instruct?device=cuda") == (
        "Qwen/Qwen3-VL-4B-Instruct"
    )
    assert base_of("vllm:nano@http://127.0.0.1:8000") == "nano"
