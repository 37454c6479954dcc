"""Lets a CUDA build of torchvision be imported beside a CPU build of torch.

The package index has torchvision with CUDA alone. Beside a torch without CUDA its extension
cannot be loaded, so its operators do not exist, and ``import torchvision`` ends in an error
because it describes two of them to the compiler (``torchvision::nms``, ``::qnms``). vLLM and the
processor of Qwen3-VL import torchvision, for transforms that need no operator.

So, when torchvision is imported and its extension does not load, this declares the operators
that torchvision refers to while it is imported. They have no implementation: calling one
raises ``NotImplementedError``. With a torchvision that fits its torch nothing happens.

Run as a script, it installs itself into the environment of the Python that runs it: a copy
in site-packages, and a ``.pth`` file through which every start of that Python imports it.
For the environment of the vLLM tests alone; our packages never need torchvision.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

_OPERATORS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)


class _Hook(MetaPathFinder):
    """Runs once, just before torchvision is found by the ordinary finders."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_operators()


def _declare_operators() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    for extension in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(extension)
            return
        except OSError:
            continue
    # Kept alive by the module: the declarations go when the library object does.
    global _library
    _library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        _library.define(operator)


def _install() -> None:
    site_packages = Path(sysconfig.get_path("purelib"))
    shutil.copyfile(__file__, site_packages / "_mmzero_torchvision_shim.py")
    (site_packages / "_mmzero_torchvision_shim.pth").write_text(
        "import _mmzero_torchvision_shim\n", encoding="utf-8"
    )


if __name__ == "__main__":
    _install()
else:
    sys.meta_path.insert(0, _Hook())
