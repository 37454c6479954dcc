"""Tests against a real vLLM: `make test-vllm`. Elsewhere they are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmzero_env.protocol import ROLES, Role

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason="needs a real vLLM: make test-vllm")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, Path]:
    """A random LoRA adapter of the nano model for each role."""
    from tests.vllm.lora import save_adapter

    folder = tmp_path_factory.mktemp("adapters")
    return {role: save_adapter(folder / role, seed) for seed, role in enumerate(ROLES)}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """The server that all tests share; it lasts for the session."""
    from agents.vllm_process import VllmProcess
    from tests.vllm.settings import SMALL

    with VllmProcess("nano", log_dir=tmp_path_factory.mktemp("log"), settings=SMALL) as running:
        yield running


@pytest.fixture
def policy(server, adapters: dict[Role, Path], tmp_path: Path) -> Iterator:
    """A client of the server with an adapter for each role, under names of its own."""
    from agents.vllm import VllmPolicy
    from tests.vllm.lora import copied

    if not server.running:
        server.start()
    client = VllmPolicy(server.agent.removeprefix("vllm:"), patience=120.0)
    try:
        for role, path in adapters.items():
            client.load_adapter(role, f"{role}-{tmp_path.name}", str(copied(path, tmp_path / role)))
        yield client
    finally:
        client.close()
        unload_all(server.url)


def unload_all(url: str) -> None:
    """Take every adapter from a server, so that tests do not crowd each other out."""
    import httpx

    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        for model in http.get("/v1/models").json()["data"]:
            if model["parent"] is not None:
                http.post("/v1/unload_lora_adapter", json={"lora_name": model["id"]})
