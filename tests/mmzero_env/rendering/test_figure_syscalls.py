from __future__ import annotations

import ctypes
import struct

import pytest

from mmzero_env.rendering.figure_syscalls import ARCHITECTURES, REFUSED, syscall_filter

ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050001


def verdict(program: bytes, architecture: int, number: int) -> int:
    """Run a filter as the kernel would, with the four instructions that it may have."""
    steps = list(struct.iter_unpack("=HBBI", program))
    data = {0: number, 4: architecture}
    at = value = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            value = data[operand]
        elif code == 0x15:
            at += if_true if value == operand else if_false
        else:
            assert code == 0x35
            at += if_true if value >= operand else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_refuses_the_table_and_nothing_else(machine) -> None:
    program = syscall_filter(machine)
    architecture, column = ARCHITECTURES[machine]
    refused = {entry[column] for entry in REFUSED.values()} - {None}
    for number in range(600):
        expected = REFUSE if number in refused else ALLOW
        assert verdict(program, architecture, number) == expected
    other = next(code for code, _ in ARCHITECTURES.values() if code != architecture)
    assert verdict(program, other, 0) == KILL, "numbers of another machine mean other calls"
    assert verdict(program, architecture, 0x40000000 | 56) == KILL, "x32"


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_numbers_are_those_of_libseccomp(machine) -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    architecture, column = ARCHITECTURES[machine]
    unknown = []
    for name, entry in REFUSED.items():
        number = library.seccomp_syscall_resolve_name_arch(
            ctypes.c_uint32(architecture), name.encode()
        )
        if number == -1:
            unknown.append(name)
        elif number < -1:
            assert entry[column] is None, f"{name} does not exist on {machine}"
        else:
            assert entry[column] == number, name
    assert len(unknown) <= 6, f"too new for this libseccomp: {unknown}"
