"""New weights of a whole model for a vLLM server that runs.

vLLM's development routes: ``vllm/entrypoints/serve/dev/rlhf`` and ``…/rpc`` of vLLM 0.31. The
weights are read in place from a folder on disk, through ``GPUModelRunner.reload_weights``. A
model whose output layer is tied to its embeddings keeps the old one on a CPU: vLLM packs a copy
of it there that the reload does not reach (measured); on a GPU both share their memory (read).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.endpoint import Endpoint
from agents.http_faults import Refused, Unusable
from agents.policy import PolicyError


async def load_weights(endpoint: Endpoint, path: str) -> None:
    """Give a server the weights of a model folder.

    Open requests are answered first, then the caches of prefixes and pictures are emptied;
    requests that come meanwhile are answered with the new weights.

    Args:
        endpoint: The server.
        path: The folder, readable where the server runs. Its model has the shapes of the one
            that the server was started with.

    Raises:
        PolicyError: If the server does not take them.
    """
    try:
        await _control(endpoint, "/pause?mode=wait", {}, {"status": "paused"})
        try:
            call = {"method": "reload_weights", "kwargs": {"weights_path": path}}
            await _control(endpoint, "/collective_rpc", call)
        finally:
            await _control(endpoint, "/resume", {}, {"status": "resumed"})
    except PolicyError as error:
        mend = f"{path} must be a model folder that is readable where the server runs."
        if isinstance(error, Refused) and error.status == 404:
            mend = "Start vLLM with VLLM_SERVER_DEV_MODE=1 in its environment, on loopback."
        raise PolicyError(f"{error}. {mend}") from None


async def _control(
    endpoint: Endpoint,
    path: str,
    body: Mapping[str, Any],
    expected: Mapping[str, Any] | None = None,
) -> None:
    """One step; without an expected answer every worker says null."""

    def read(data: Mapping[str, Any]) -> bool | Unusable:
        if expected is not None and data == expected:
            return True
        results = data.get("results")
        if expected is None and isinstance(results, list) and results:
            if all(result is None for result in results):
                return True
        return Unusable(f"expected {expected or 'results that are null'}, came {data!r:.200}")

    await endpoint.ask(path, read, request_id=f"weights{path}", body=body)
