import os
import subprocess
import sys

import pytest

from benchmarks.peak_memory import peak_mib

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5) is Linux")


@linux
def test_a_small_program_of_a_large_process_is_small():
    held = bytearray(os.urandom(1)) * (300 * 2**20)
    shown = subprocess.run(
        [sys.executable, "-c", "from benchmarks.peak_memory import peak_mib; print(peak_mib())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    assert len(held) == 300 * 2**20 and peak_mib() > 300
    assert 5 < float(shown.stdout) < 200


@linux
def test_the_peak_stays_when_the_memory_is_given_back():
    before = peak_mib()
    held = bytearray(b"x") * (int(before + 50) * 2**20)
    del held
    assert peak_mib(os.getpid()) > before + 49


def test_a_process_that_is_not_there_is_an_error():
    with pytest.raises(OSError):
        peak_mib(2**22 + 1)
