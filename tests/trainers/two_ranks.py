"""Two processes that train together, started without a launcher's seconds of imports."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PATIENCE = 120


def on_two_ranks(work: Callable[..., Any], *args: Any, **environment: str) -> list[Any]:
    """What a function of a module gives on each of two ranks; an exception as its text.

    Args:
        work: Called with ``args``; both must be picklable.
        args: For it.
        environment: Added to what a launcher sets.
    """
    context = multiprocessing.get_context("forkserver")
    # Imported once, then forked: clean of the threads of this process, and quick.
    context.set_forkserver_preload(["trainers.grpo", "trainers.evolve", "agents.adapters"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes, children = [], []
    for rank in range(2):
        launched = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        ours, theirs = context.Pipe()
        child = context.Process(target=_run, args=(theirs, launched, work, args), daemon=True)
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    try:
        found = []
        for pipe in pipes:
            assert pipe.poll(PATIENCE), "a rank hangs"
            found.append(pickle.loads(pipe.recv_bytes()))
        return found
    finally:
        for child in children:
            child.join(5)
            child.kill()


def _run(pipe: Any, environment: dict[str, str], work: Callable[..., Any], args: Any) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    try:
        result = work(*args)
    except BaseException as error:
        traceback.print_exc()
        result = f"{type(error).__name__}: {error}"
    with suppress(BrokenPipeError):
        # Plain pickling: the context's own shares tensors, which end with this process.
        pipe.send_bytes(pickle.dumps(result))
    pipe.close()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
