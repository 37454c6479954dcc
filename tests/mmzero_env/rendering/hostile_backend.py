"""A drawing backend that misbehaves on request: the id of the root says how."""

from __future__ import annotations

import ctypes
import os
import signal
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
            case "raise":
                raise KeyError("something the document tripped over")
        return np.full((size, size, 3), 255, dtype=np.uint8)


class Broken:
    """A backend that cannot start."""

    def __init__(self) -> None:
        raise OSError("no library called cairo")
