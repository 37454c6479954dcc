"""Starting and stopping, against a stand-in that is not vLLM: see ``fake_vllm``."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agents.policy import PolicyError
from agents.vllm_installation import Installation
from agents.vllm_process import (
    HOST,
    VllmProcess,
    agent_of,
    start_all,
    stop_all,
)
from agents.vllm_settings import VllmSettings, find_model, flags
from mmzero_env.errors import UserError
from tests.agents.test_process_keeper import alive, needs_proc, until

FAKE = Path(__file__).parent / "fake_vllm"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(FAKE))

    def make(**behaviour: Any) -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "fake.json").write_text(json.dumps(behaviour))
        return str(folder)

    return make


def started(server: VllmProcess) -> dict[str, Any]:
    return ask(int(server.url.rpartition(":")[2]))


def ask(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", "/started")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_a_server_gets_the_flags_and_switches_it_needs(model, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    path = model()
    settings = VllmSettings(max_model_len=512, max_loras=5, max_lora_rank=32, threads=3)
    with VllmProcess(path, log_dir=tmp_path / "logs", settings=settings) as server:
        found = started(server)
        assert server.agent == f"vllm:{path}@{server.url}"
        assert server.url.startswith("http://127.0.0.1:") and server.running
    given = dict(zip(found["argv"], found["argv"][1:], strict=False))
    assert given["--model"] == path == given["--served-model-name"]
    assert given["--host"] == "127.0.0.1" and server.url.endswith(given["--port"])
    assert given["--logprobs-mode"] == "processed_logprobs"
    assert "--enable-lora" in given
    assert given["--max-loras"] == "5" and given["--max-lora-rank"] == "32"
    assert given["--max-model-len"] == "512"
    # The stand-in is no distribution 'vllm': taken for a repackaged build for the CPU.
    assert given["--dtype"] == "float32" and given["--distributed-executor-backend"] == "uni"
    assert "--enforce-eager" in given and given["--kv-cache-memory-bytes"] == str(2**30)
    assert json.loads(given["--override-generation-config"])["top_p"] == 1.0
    assert found["env"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert found["env"]["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert found["env"]["HF_HUB_OFFLINE"] == "1"
    assert found["env"]["OMP_NUM_THREADS"] == "3"
    assert "--enable-scale-out" in given
    assert "VLLM_API_KEY" not in found["env"]
    assert "sk-secret" not in server.log.read_text()


def test_a_server_for_whole_models_has_a_name_for_each_of_its_starts(model, tmp_path):
    path = model()
    with VllmProcess(path, log_dir=tmp_path / "logs", whole=True) as server:
        names = [_served_names(server)]
        assert server.agent == f"vllm:{path}@{server.url}"
        assert "--enable-lora" not in started(server)["argv"]
        assert started(server)["env"]["VLLM_SERVER_DEV_MODE"] == "1"
        server.restart()
        names.append(_served_names(server))
    assert [usual for _, usual in names] == [path] * 2
    assert all(re.fullmatch(f"{path}~[0-9a-f]{{8}}", first) for first, _ in names)
    assert names[0] != names[1]


def _served_names(server: VllmProcess) -> list[str]:
    argv = started(server)["argv"]
    place = argv.index("--served-model-name")
    return argv[place + 1 : place + 3]


def test_a_gpu_server_sees_its_gpus_alone(model, tmp_path):
    settings = VllmSettings(device="gpu", tensor_parallel=2, gpu_memory=0.4, max_loras=0)
    with VllmProcess(model(), log_dir=tmp_path, settings=settings, gpus=[2, 3]) as server:
        found = started(server)
    given = dict(zip(found["argv"], found["argv"][1:], strict=False))
    assert found["env"]["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert given["--tensor-parallel-size"] == "2" and given["--gpu-memory-utilization"] == "0.4"
    assert given["--dtype"] == "auto"
    assert not {"--enable-lora", "--enforce-eager", "--kv-cache-memory-bytes"} & set(given)
    with pytest.raises(UserError, match="tensor_parallel=2 needs as many GPUs a server, came 1"):
        VllmProcess(model(), log_dir=tmp_path, settings=settings, gpus=[2])
    with pytest.raises(UserError, match="runs on the CPU"):
        VllmProcess(model(), log_dir=tmp_path, gpus=[0])


@needs_proc
def test_leaving_the_context_ends_the_server_and_its_children(model, tmp_path):
    with VllmProcess(model(), log_dir=tmp_path) as server:
        pids = [server.pid or 0, started(server)["child"]]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert not server.running and server.pid is None
    server.stop()


@needs_proc
def test_an_error_inside_the_context_ends_the_server_as_well(model, tmp_path):
    server = VllmProcess(model(), log_dir=tmp_path)
    with pytest.raises(ZeroDivisionError), server:
        pid = server.pid or 0
        raise ZeroDivisionError
    assert not alive(pid)


def test_a_restart_keeps_the_address_and_continues_the_log(model, tmp_path):
    with VllmProcess(model(print="hello"), log_dir=tmp_path) as server:
        url, pid = server.url, server.pid
        server.restart()
        assert server.url == url and server.pid != pid
        assert started(server)["argv"]
    assert server.log.read_text().count("hello") == 2


def test_several_servers_load_at_the_same_time_behind_one_agent(model, tmp_path):
    path = model(load=1.5)
    servers = [VllmProcess(path, log_dir=tmp_path) for _ in range(3)]
    begun = time.monotonic()
    start_all(servers)
    assert time.monotonic() - begun < 4.0
    assert len({server.url for server in servers}) == 3
    assert agent_of(servers) == f"vllm:{path}@{','.join(server.url for server in servers)}"
    by_role = "|".join(server.url for server in servers)
    assert agent_of(servers, models=3) == f"vllm:{path}@{by_role}"
    stop_all(servers)
    assert not any(server.running for server in servers)


@needs_proc
def test_if_one_of_several_fails_none_stays(model, tmp_path):
    good = VllmProcess(model(), log_dir=tmp_path)
    good.launch()
    good.wait()
    pid = good.pid or 0
    bad = VllmProcess(model(end=3), log_dir=tmp_path)
    with pytest.raises(PolicyError, match="ended with exit code 3"):
        start_all([good, bad])
    assert not alive(pid)


@pytest.mark.parametrize(
    ("said", "kind", "mend"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", PolicyError, "lower gpu_memory"),
        ("ValueError: 9 GiB is less than requested memory for kv", PolicyError, "kv_cache_gb"),
        ("ValueError: No available memory for the cache blocks", UserError, "raise kv_cache_gb"),
        ("max_model_len (9) is greater than the derived", UserError, "model's own context"),
        ("OSError: x/y is not a local folder and is not", UserError, "could not be found"),
        ("OSError: [Errno 98] Address already in use", UserError, "choose another port"),
        ("Segmentation fault", PolicyError, "The whole log is"),
    ],
)
def test_a_server_that_ends_shows_its_last_lines_and_the_mend(model, tmp_path, said, kind, mend):
    lines = "\n".join(f"line {i}" for i in range(40))
    server = VllmProcess(model(print=f"{lines}\n{said}", end=1), log_dir=tmp_path)
    with pytest.raises(kind) as caught:
        server.start()
    message = str(caught.value)
    assert f"{server.url} ended with exit code 1" in message
    assert said in message and "line 39" in message and "line 3\n" not in message
    assert mend in message
    assert not server.running


def test_the_cause_is_shown_though_it_stands_far_above_the_end(model, tmp_path):
    filler = "\n".join(f"line {i}" for i in range(40))
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above."
    said = f"(EngineCore) ERROR ValueError: the model is of cheese\n{filler}\n{wrapper}"
    with pytest.raises(PolicyError) as caught:
        VllmProcess(model(print=said, end=1), log_dir=tmp_path).start()
    assert "\nCause: ValueError: the model is of cheese\n" in str(caught.value)


def test_only_the_log_of_this_start_explains_this_failure(model, tmp_path):
    path = model(print="CUDA out of memory", end=1)
    server = VllmProcess(path, log_dir=tmp_path)
    with pytest.raises(PolicyError, match="lower gpu_memory"):
        server.start()
    model(print="something else", end=1)
    with pytest.raises(PolicyError) as caught:
        server.start()
    assert "gpu_memory" not in str(caught.value)


@needs_proc
def test_a_server_that_never_answers_is_given_up_and_ended(model, tmp_path):
    notes: list[str] = []
    server = VllmProcess(model(load=300), log_dir=tmp_path, timeout=1.0, note=notes.append)
    server.launch()
    pid = server.pid or 0
    with pytest.raises(PolicyError, match="did not answer within 1 s"):
        server.wait()
    assert not alive(pid)


def test_waiting_says_now_and_then_that_it_waits(model, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.vllm_process._NOTE_EVERY", 0.3)
    notes: list[str] = []
    with VllmProcess(model(load=1), log_dir=tmp_path, note=notes.append) as server:
        assert notes and f"{server.url} is loading, " in notes[0] and str(server.log) in notes[0]


def test_a_taken_port_is_refused_before_anything_starts(model, tmp_path):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 cannot be used"):
            VllmProcess(model(), log_dir=tmp_path, port=port)
    with pytest.raises(UserError, match="came 70000"):
        VllmProcess(model(), log_dir=tmp_path, port=70000)


def test_an_environment_without_vllm_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.vllm_installation._PROBE", "print('{\"module\": false}')")
    with pytest.raises(UserError, match=r"pip install 'mmzero-env\[vllm\]'"):
        VllmProcess("nano", log_dir=tmp_path)
    with pytest.raises(UserError, match="cannot be run as a Python"):
        Installation.of(str(tmp_path / "python"))


def test_the_build_of_vllm_decides_how_its_server_is_started(monkeypatch):
    def found(text: str) -> Installation:
        monkeypatch.setattr("agents.vllm_installation._PROBE", f"print('{text}')")
        return Installation.of()

    gpu = found('{"module": true, "vllm": "0.31.0"}')
    assert not gpu.cpu and gpu.command[-2:] == ("vllm.entrypoints.cli.main", "serve")
    assert found('{"module": true, "vllm": "0.31.0+cpu"}').cpu
    repack = found('{"module": true, "vllm-cpu": "0.31.0"}')
    assert repack.cpu and repack.command[-1] == "vllm.entrypoints.openai.api_server"
    assert repack.python == sys.executable


def test_models_are_found_by_name_folder_or_id(tmp_path, monkeypatch):
    path, name = find_model("nano")
    assert name == "nano" and (Path(path) / "config.json").is_file()
    assert find_model("Qwen/Qwen3-VL-4B-Instruct")[0] == "Qwen/Qwen3-VL-4B-Instruct"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_model("m") == (str(tmp_path / "m"), "m")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(UserError, match="LoRA adapter is loaded onto its base model"):
        find_model("adapter")
    for wrong in ("", "./none", "/none", "a/b/c"):
        with pytest.raises(UserError, match="is not a folder"):
            find_model(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_lora_rank": 12}, "max_lora_rank is one of 1, 8, 16"),
        ({"gpu_memory": 0.0}, "gpu_memory is a share"),
        ({"max_model_len": -1}, "must not be negative"),
        ({"tensor_parallel": 0}, "at least 1"),
        ({"pictures": 0}, "pictures must be at least 1"),
        ({"dtype": "int8"}, "dtype is 'auto'"),
        ({"device": "tpu"}, "device is 'auto'"),
    ],
)
def test_settings_that_vllm_would_refuse_are_refused_at_once(wrong, said):
    with pytest.raises(UserError, match=said):
        VllmSettings(**wrong)


def test_options_become_flags():
    options = {"enforce_eager": True, "limit": {"image": 1}, "max_loras": 1, "chunked": False}
    words = flags({"names": ["a", "b"], **options})
    assert words == [
        *("--names", "a", "b"),
        *("--enforce-eager", "--limit", '{"image": 1}', "--max-loras", "1"),
        "--no-chunked",
    ]


@needs_proc
def test_a_server_that_is_killed_from_outside_is_noticed(model, tmp_path):
    with VllmProcess(model(), log_dir=tmp_path) as server:
        child = started(server)["child"]
        os.kill(server.pid or 0, signal.SIGKILL)
        assert until(lambda: not server.running)
        assert until(lambda: not alive(child))
        server.restart()
        assert started(server)["argv"]
