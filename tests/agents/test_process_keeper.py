from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.process_keeper import KeptProcess

# Starts a child of its own, tells both process ids, and sleeps.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(300)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def family(log: Path) -> list[int]:
    assert until(lambda: log.exists() and len(log.read_text().split()) == 2)
    return [int(word) for word in log.read_text().split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
def test_stopping_ends_the_whole_family_and_only_it(tmp_path):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        log = tmp_path / "log"
        kept = KeptProcess([sys.executable, "-c", FAMILY], log=log, env=os.environ)
        pids = family(log)
        assert pids[0] == kept.pid and kept.returncode is None
        assert all(alive(pid) for pid in pids)
        kept.stop()
        assert not any(alive(pid) for pid in pids)
        assert kept.returncode == -signal.SIGTERM
        kept.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@needs_proc
def test_nothing_outlives_a_starter_that_is_killed(tmp_path):
    log = tmp_path / "log"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\nfrom pathlib import Path\n"
            "from agents.process_keeper import KeptProcess\n"
            f"kept = KeptProcess([sys.executable, '-c', {FAMILY!r}], "
            f"log=Path({str(log)!r}), env=os.environ)\ntime.sleep(300)",
        ]
    )
    pids = family(log)
    starter.kill()
    starter.wait()
    assert until(lambda: not any(alive(pid) for pid in pids))


@needs_proc
def test_a_fork_of_the_starter_does_not_keep_the_program_alive(tmp_path):
    log = tmp_path / "log"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, time\nfrom pathlib import Path\n"
            "from agents.process_keeper import KeptProcess\n"
            f"log = Path({str(log)!r})\n"
            f"kept = KeptProcess([{sys.executable!r}, '-c', {FAMILY!r}], log=log, env=os.environ)\n"
            "child = os.fork()\n"
            "if child:\n    log.with_name('fork').write_text(str(child))\n"
            "time.sleep(300)",
        ]
    )
    pids = family(log)
    assert until(lambda: (tmp_path / "fork").exists() and (tmp_path / "fork").read_text() != "")
    starter.kill()
    starter.wait()
    try:
        assert until(lambda: not any(alive(pid) for pid in pids))
    finally:
        os.kill(int((tmp_path / "fork").read_text()), signal.SIGKILL)


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_keeper_takes_the_program_along(tmp_path):
    log = tmp_path / "log"
    kept = KeptProcess([sys.executable, "-c", FAMILY], log=log, env=os.environ)
    pids = family(log)
    keeper = int(Path(f"/proc/{kept.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert until(lambda: not alive(kept.pid))
    os.kill(pids[1], signal.SIGKILL)
    kept.stop()


@needs_proc
def test_a_program_that_dies_leaves_no_orphans_and_tells_its_code(tmp_path):
    log = tmp_path / "log"
    kept = KeptProcess([sys.executable, "-c", FAMILY], log=log, env=os.environ)
    pids = family(log)
    kept.kill()
    assert kept.returncode == -signal.SIGKILL
    assert not any(alive(pid) for pid in pids)
    kept.stop()
    code = [sys.executable, "-c", "import sys; print('said'); sys.exit(7)"]
    ended = KeptProcess(code, log=tmp_path / "other", env=os.environ)
    assert until(lambda: ended.returncode is not None)
    assert ended.returncode == 7
    assert (tmp_path / "other").read_text() == "said\n"
    ended.stop()


def test_one_that_ignores_the_request_to_end_is_killed_after_the_grace_period(tmp_path):
    log = tmp_path / "log"
    stubborn = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\ntime.sleep(300)"
    )
    kept = KeptProcess([sys.executable, "-c", stubborn], log=log, env=os.environ, grace=0.3)
    assert until(lambda: log.exists() and "ready" in log.read_text())
    kept.stop()
    assert kept.returncode == -signal.SIGKILL


def test_a_program_that_does_not_exist_is_an_error_at_once(tmp_path):
    with pytest.raises(OSError, match="no-such-program could not be started"):
        KeptProcess(["no-such-program"], log=tmp_path / "log", env=os.environ)
