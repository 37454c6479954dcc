"""What keeps a worker from files, network and processes, where the system can.

The guard and the backends give a document no way to ask for any of these; this is the
second lock, for a library that has a hole. Everything here is Linux and nothing is
required: each part is used when it is there, and what is in force is known.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmzero_env.rendering import landlock, seccomp

MODES = ("auto", "none", "required")
"""Use what there is; use nothing; refuse to draw when a part is missing."""

# linux/sched.h
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Sandbox:
    """What is in force in a worker.

    Attributes:
        network_namespace: It has a network of its own, with nothing in it.
        seccomp: System calls for sockets, programs, processes and changes are refused.
        landlock: The kernel refuses files outside those that the backend reads, and TCP.
        reasons: Why something is missing that would add protection: a sentence with the
            mend by the name of the part (``"network namespace"``, ``"seccomp"``,
            ``"landlock"``, or ``"sandbox"`` for all of them). Empty when it is complete.
    """

    network_namespace: bool = False
    seccomp: bool = False
    landlock: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)


def leave_network() -> str | None:
    """Move this process, and all it will start, to an empty network.

    The process must have one thread. As root a network namespace is enough; anybody
    else needs a user namespace around it.

    Returns:
        None when done, or a sentence why not.
    """
    if not sys.platform.startswith("linux"):
        return "Network namespaces are a feature of Linux."
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    # os.unshare exists from Python 3.12 on.
    if user == 0 and libc.unshare(_NEW_NETWORK) == 0:
        return None
    if libc.unshare(_NEW_USER | _NEW_NETWORK) == 0:
        _keep_names(user, group)
        return None
    name = errno.errorcode.get(ctypes.get_errno(), "?")
    return (
        f"The kernel refuses a network namespace ({name}). In a container start it with "
        "--security-opt seccomp=unconfined or --cap-add SYS_ADMIN; on Ubuntu: sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0."
    )


def _keep_names(user: int, group: int) -> None:
    """Be the same user inside the namespace; without a map one is nobody."""
    for name, line in (
        ("uid_map", f"{user} {user} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
        except OSError:
            # Cosmetic: permissions are checked against the user outside.
            return


def confine(reads: Sequence[str] | None, network: str | None) -> Sandbox:
    """Give up in this process what drawing does not need. Final.

    Everything that drawing loads must be loaded.

    Args:
        reads: Files and folders that the backend still opens; () for none, None for
            unknown, which leaves reading as it is.
        network: What :func:`leave_network` returned.
    """
    # Loads libseccomp, which Landlock would refuse; Landlock's calls go before the filter.
    seccomp.unavailable()
    files = landlock.restrict(reads)
    calls = seccomp.restrict(read_files=reads is None or len(reads) > 0)
    reasons = {"network namespace": network, "seccomp": calls}
    # Without files to read the filter alone refuses all that Landlock would.
    if calls is not None or reads is None or len(reads) > 0:
        reasons["landlock"] = files
    return Sandbox(
        network_namespace=network is None,
        seccomp=calls is None,
        landlock=files is None,
        reasons={name: reason for name, reason in reasons.items() if reason is not None},
    )


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere a no-op.

    Args:
        parent: The parent's process id: it may have ended before this call.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, 9, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
