"""What the sandbox of plotting codes sees of this machine, all of it read-only.

The interpreter, its standard library, the system's shared libraries, and matplotlib with
what it requires. All but the system's libraries lie at paths of their own inside, so no
path there tells about this machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement

from mmzero_env.errors import UserError

_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_MEND = "pip install 'mmzero-env[figures]' into a virtual environment"


def python_binds(empty: Path) -> list[str]:
    """The interpreter, its standard library and the system's shared libraries.

    Args:
        empty: An empty directory, to lie over packages installed beside the library.

    Returns:
        Options of bubblewrap.
    """
    standard = Path(sysconfig.get_path("stdlib"))
    places = [(standard.parent, Path("/python") / standard.parent.name)]
    binds = ["--ro-bind", os.path.realpath(sys.executable), "/python/bin/python"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            binds += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            places.append((path, path))
    if os.path.exists("/etc/ld.so.cache"):
        binds += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for source, inside in places:
        binds += ["--ro-bind", str(source), str(inside)]
        for packages in (
            *source.glob("python3*/site-packages"),
            *source.glob("python3*/dist-packages"),
        ):
            binds += ["--ro-bind", str(empty), str(inside / packages.relative_to(source))]
    return binds


def package_binds() -> list[str]:
    """Matplotlib and all that it requires, each file and folder by its name.

    Returns:
        Options of bubblewrap.

    Raises:
        UserError: Something is missing, or nobody knows which files it consists of.
    """
    binds: list[str] = []
    waiting, seen = ["matplotlib"], {"matplotlib"}
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"{name} is not installed: {_MEND}.") from None
        if not distribution.files:
            raise UserError(f"{name} is installed without a list of its files: {_MEND}.")
        tops = {file.parts[0] for file in distribution.files}
        for top in sorted(tops - {"..", "__pycache__"}):
            if not top.endswith((".dist-info", ".pth")):
                source = os.path.realpath(str(distribution.locate_file(top)))
                binds += ["--ro-bind", source, f"/packages/{top}"]
        for line in distribution.requires or ():
            requirement = Requirement(line)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in seen:
                seen.add(requirement.name)
                waiting.append(requirement.name)
    return binds
