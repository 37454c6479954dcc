"""System calls that a plotting code is refused, as a filter the kernel can load.

A second lock behind the namespaces. Above all it forbids new processes and threads:
``RLIMIT_NPROC`` does not bind root, and limits of time and memory hold for one process
only. It also closes memory that no limit counts (System V and memfd segments, queues)
and the parts of the kernel where most escapes were found. Whatever is refused fails with
``EPERM``.
"""

from __future__ import annotations

import errno
import struct

# Name -> number on x86-64, number on 64-bit ARM; None where it does not exist there.
# Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of
# Linux. Calls newer than number 423 have one number everywhere.
REFUSED: dict[str, tuple[int, int | None]] = {
    # Processes and threads.
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Memory beside the address space.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # Talking to anybody.
    "socket": (41, 198),
    "socketpair": (53, 199),
    # Reaching into other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # File systems.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # Corners of the kernel that plotting has no use for.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
}

# Machine -> (AUDIT_ARCH_* of linux/audit.h, column of the table).
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# linux/bpf_common.h and linux/seccomp.h.
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_AT_LEAST = 0x35
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
# Calls of the x32 interface carry this bit and would slip past numbers of x86-64.
_X32 = 0x40000000


def syscall_filter(machine: str) -> bytes:
    """The filter as the program of ``struct sock_filter`` that bubblewrap loads.

    Args:
        machine: A key of :data:`ARCHITECTURES`, as ``platform.machine()`` gives it.
    """
    architecture, column = ARCHITECTURES[machine]
    numbers = [entry[column] for entry in REFUSED.values()]
    refused = [number for number in numbers if number is not None]
    program = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for index, number in enumerate(refused):
        # Skip the calls that are left and the permission behind them.
        program.append((_JUMP_IF_EQUAL, len(refused) - index, 0, number))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
