"""Landlock: the Linux kernel's own way to give up access to files, by three calls.

It needs no library. Other than a system call filter it can tell folders apart, and it
also stands where libseccomp is not installed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Sequence

# The same numbers on all architectures (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS

# include/uapi/linux/landlock.h
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_ALL_TCP = 0b11  # bind and connect
_ALL_SCOPES = 0b11  # abstract Unix sockets and signals that leave the process
# Version of the interface -> how many kinds of access to files it knows.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_VERSION, _SCOPE_VERSION = 4, 6


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``; older kernels take a shorter one."""

    _fields_ = [("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """The version of the kernel's interface; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    found = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(0, found)


def restrict(reads: Sequence[str] | None) -> str | None:
    """Give up files and TCP, for this thread and those it will start. Final.

    Args:
        reads: Files and folders that may still be opened for reading; those that do not
            exist are passed over. None leaves all reading as it is.

    Returns:
        None when the restriction is in force, or a sentence why it is not.
    """
    known = version()
    if known == 0:
        return "Landlock is not available: it needs Linux 5.13 or later with Landlock enabled."
    reading = _READ_FILE | _READ_FOLDER
    files = (1 << _FILE_BITS[min(known, max(_FILE_BITS))]) - 1
    ruleset = _Ruleset(
        files if reads is not None else files & ~reading,
        _ALL_TCP if known >= _TCP_VERSION else 0,
        _ALL_SCOPES if known >= _SCOPE_VERSION else 0,
    )
    size = 24 if known >= _SCOPE_VERSION else 16 if known >= _TCP_VERSION else 8
    descriptor = _call(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if descriptor < 0:
        return _refusal()
    try:
        for path in reads or ():
            if os.path.exists(path):
                _allow_reading(descriptor, path)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or (
            _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
        ):
            return _refusal()
    except OSError as error:
        return f"{error.strerror or error}: {error.filename}."
    finally:
        os.close(descriptor)
    return None


def _allow_reading(ruleset: int, path: str) -> None:
    allowed = _READ_FILE | _READ_FOLDER if os.path.isdir(path) else _READ_FILE
    # O_PATH exists on Linux only, where all of this runs.
    folder = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
    try:
        rule = _Beneath(allowed, folder)
        if _call(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        ):
            raise OSError(ctypes.get_errno(), "Landlock takes no rule for it", path)
    finally:
        os.close(folder)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(ctypes.c_long(number), *arguments)


def _refusal() -> str:
    number = ctypes.get_errno()
    return f"The kernel refuses Landlock ({errno.errorcode.get(number, number)})."
