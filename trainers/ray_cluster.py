"""A Ray cluster for a run: one of its own on this machine, or one that is there already."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

from agents.registry import missing_extra
from mmzero_env.errors import EngineError, UserError

try:
    import ray
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    raise missing_extra(error, "ray") from error

OBJECT_STORE = 200 * 2**20
"""Shared memory of a cluster that a run starts, in bytes. Results pass through it and are
copied out at once, so it never has to hold a batch; Ray's own choice is 30 % of the memory."""


@contextmanager
def connected(address: str = "", *, cpus: int | None = None) -> Generator[None]:
    """Be connected to a Ray cluster within a block.

    What was started for the block ends with it; a cluster that was joined goes on. If this
    process is connected already, that connection is used and left alone.

    Args:
        address: Empty starts a cluster on this machine, for this process alone, without a
            dashboard. ``"auto"`` joins the one that ``ray start`` has made this machine a
            part of, ``"HOST:PORT"`` the one of that head. Ray wants a token of whoever joins.
        cpus: CPUs of a cluster that is started; all of the machine when None.

    Raises:
        UserError: If there is no cluster at the address.
        EngineError: If a cluster does not start.
    """
    if ray.is_initialized():
        yield
        return
    # Ray's handler ends a cluster of our own; a run that has one ends it by leaving the block.
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _look_for(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            # "local" and not no address at all: that joins whatever cluster it finds.
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        ray.shutdown()
        if address:
            raise UserError(
                f"no Ray cluster could be joined at ray_address={address}: {error}. Start one with "
                "'ray start --head' there and 'ray start --address=HOST:PORT' on the other "
                "machines, this one included, all with the same Ray and Python; or leave "
                "ray_address empty to start one on this machine."
            ) from error
        raise EngineError(f"no Ray cluster started on this machine: {error}") from error
    finally:
        if on_sigterm != signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _look_for(address: str) -> None:
    """See whether anybody listens there: Ray itself would try for minutes.

    Raises:
        OSError: If nobody does.
        ValueError: If it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "//" in address or not host or not port.isdecimal():
        raise ValueError("expected auto or HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
