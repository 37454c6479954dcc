"""A drawing backend that misbehaves on request: the id of the root says how."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

from mmzero_env.protocol import Image
from mmzero_env.rendering.guard import Vetted


class Hostile:
    """White pictures, except for roots with an id."""

    def draw(self, document: Vetted, size: int) -> Image:
        root = document.root
        log = root.get("data-log")
        tries = 1
        if log:
            with Path(log).open("a") as file:
                file.write("x")
            tries = Path(log).stat().st_size
        match root.get("id"):
            case "spin":
                while True:
                    pass
            case "sleep":
                time.sleep(60)
            case "sleep-once" if tries == 1:
                time.sleep(60)
            case "memory":
                blocks = []
                while True:
                    blocks.append(np.ones(2**22))
            case "crash":
                ctypes.string_at(0)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed-once" if tries == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill-helper":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            case "kill-helper-once" if tries == 1:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            case "read":
                raise ValueError(Path(root.get("data-path", "")).read_text())
            case "write":
                Path(root.get("data-path", "")).write_text("overwritten")
            case "append":
                with Path(root.get("data-path", "")).open("a") as file:
                    file.write("more")
            case "remove":
                Path(root.get("data-path", "")).unlink()
            case "shrink":
                for descriptor in range(3, 30):
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, 0)
            case "connect":
                with socket.socket() as client:
                    client.settimeout(2)
                    client.connect(("127.0.0.1", int(root.get("data-port", ""))))
            case "fork":
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
            case "exec":
                os.execv("/bin/sh", ["/bin/sh", "-c", "exit 3"])
            case "program":
                subprocess.run(["/bin/sh", "-c", "true"], check=True)
            case "signal":
                os.kill(os.getppid(), 0)
            case "thread":
                thread = threading.Thread(target=time.sleep, args=(0,))
                thread.start()
                thread.join()
            case "namespace":
                raise ValueError(os.readlink("/proc/self/ns/net"))
            case "raise":
                raise KeyError("something the document tripped over")
        return np.full((size, size, 3), 255, dtype=np.uint8)


class Sealed(Hostile):
    """Says that drawing opens no files."""

    fork_safe = True
    reads = ()


class Reader(Hostile):
    """Says that drawing opens files in one folder."""

    reads = ("/usr",)


class Threaded(Hostile):
    """Says that it can be forked, and starts a thread before the fork."""

    fork_safe = True

    def __init__(self) -> None:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


class Broken:
    """A backend that cannot start."""

    def __init__(self) -> None:
        raise OSError("no library called cairo")
