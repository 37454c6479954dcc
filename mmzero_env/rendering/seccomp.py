"""A system call filter for processes that only compute, by the system's libseccomp.

Refused calls return an error instead of ending the process, so that a library that
tries one (a cache file, a lookup) fails softly. Bound by ctypes: the bindings for
Python on the package index are unmaintained or have to be compiled.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys

# seccomp.h of libseccomp 2: actions, the attribute for all threads, comparisons.
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_ALL_THREADS = 4
_NOT_EQUAL, _MASKED_EQUAL = 1, 7

# linux/sched.h
_CLONE_THREAD = 0x00010000

_NETWORK = """
    socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom
    recvmsg recvmmsg setsockopt shutdown
"""
_PROCESSES = """
    execve execveat fork vfork ptrace process_vm_readv process_vm_writev process_madvise
    kcmp pidfd_open pidfd_getfd pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo
    setpgid setsid setpriority sched_setscheduler sched_setattr migrate_pages move_pages
"""
_SYSTEM = """
    mount umount umount2 pivot_root chroot mount_setattr move_mount open_tree fsopen fsconfig
    fsmount fspick unshare setns bpf perf_event_open userfaultfd keyctl add_key request_key
    kexec_load kexec_file_load init_module finit_module delete_module reboot swapon swapoff
    sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex quotactl
    quotactl_fd acct syslog iopl ioperm setuid setgid setreuid setregid setresuid setresgid
    setgroups setfsuid setfsgid capset setrlimit nfsservctl vhangup
    name_to_handle_at open_by_handle_at lookup_dcookie fanotify_init fanotify_mark
    inotify_add_watch shmget shmat shmctl msgget msgsnd msgrcv semget semop semctl mq_open
    mq_unlink
"""
_CHANGES = """
    creat mkdir mkdirat mknod mknodat rmdir unlink unlinkat rename renameat renameat2 link
    linkat symlink symlinkat truncate ftruncate fallocate chmod fchmod fchmodat fchmodat2
    chown fchown lchown fchownat utime utimes utimensat futimesat setxattr lsetxattr
    fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat chdir fchdir
"""
# These would go around the filter (io_uring), or hide their flags from it in a structure;
# with ENOSYS the C library falls back to the older call, whose flags it can see.
_UNSEEN = "clone3 openat2 io_uring_setup io_uring_enter io_uring_register"

_OPEN_FLAGS = {"open": 1, "openat": 2}
"""Position of the flags among the arguments."""


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def unavailable() -> str | None:
    """Why there can be no filter, with the mend; None when there can."""
    if not sys.platform.startswith("linux"):
        return "System calls are filtered on Linux only."
    if _library() is None:
        return (
            "libseccomp is missing, system calls stay unfiltered: apt-get install libseccomp2 "
            "(Debian, Ubuntu) or dnf install libseccomp (Fedora)."
        )
    return None


def restrict(read_files: bool) -> str | None:
    """Refuse from now on what drawing never needs, in all threads of this process.

    Refused are sockets, starting programs and processes (threads are fine), signals to
    others, debugging, mounts, namespaces, changes of users, limits and files. It cannot
    be undone.

    Args:
        read_files: Whether files may still be opened for reading.

    Returns:
        None when the filter is in force, or a sentence why it is not.
    """
    reason = unavailable()
    library = _library()
    if reason is not None or library is None:
        return reason
    context = library.seccomp_init(_ALLOW)
    if not context:
        return "libseccomp does not start."
    try:
        _add_rules(library, context, read_files)
        library.seccomp_attr_set(context, _ALL_THREADS, 1)
        status = library.seccomp_load(context)
    except OSError as error:
        return f"{error.strerror}; a newer libseccomp2 may."
    finally:
        library.seccomp_release(context)
    if status:
        name = errno.errorcode.get(-status, str(status))
        return (
            f"The kernel refuses a system call filter ({name}); it needs Linux 3.17 built with "
            "CONFIG_SECCOMP_FILTER."
        )
    return None


def _add_rules(library: ctypes.CDLL, context: int, read_files: bool) -> None:
    def refuse(name: str, *comparisons: _Comparison, error: int = errno.EACCES) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Another architecture or an older library: there is no such call to refuse.
        if number < 0:
            return
        array = (_Comparison * len(comparisons))(*comparisons)
        status = library.seccomp_rule_add_array(
            context, _ERRNO | error, number, len(comparisons), array
        )
        if status:
            raise OSError(-status, f"libseccomp takes no rule for {name}")

    for name in f"{_NETWORK} {_PROCESSES} {_SYSTEM} {_CHANGES}".split():
        refuse(name)
    for name in _UNSEEN.split():
        refuse(name, error=errno.ENOSYS)
    refuse("clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0))
    # abort() and a crash handler signal the process itself.
    for name in ("kill", "tgkill"):
        refuse(name, _Comparison(0, _NOT_EQUAL, os.getpid(), 0))
    # Limits may be read, not changed.
    refuse("prlimit64", _Comparison(2, _NOT_EQUAL, 0, 0))
    for name, position in _OPEN_FLAGS.items():
        if not read_files:
            refuse(name)
            continue
        for mask, value in (
            (os.O_ACCMODE, os.O_WRONLY),
            (os.O_ACCMODE, os.O_RDWR),
            (os.O_CREAT, os.O_CREAT),
            (os.O_TRUNC, os.O_TRUNC),
        ):
            refuse(name, _Comparison(position, _MASKED_EQUAL, mask, value))


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    return library
