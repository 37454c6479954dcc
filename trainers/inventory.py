"""What is installed for which feature, which versions do not go together, and which GPUs there are.

Features are the extras of the package; what each needs is read from the installed package's
own metadata, so this list cannot fall behind ``pyproject.toml``.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement

from mmzero_env.rendering.system import Finding

PACKAGE = "mmzero-env"

FEATURES: Mapping[str, str] = {
    "train": "mmzero evolve, eval, export: training and local models",
    "endpoint": "agents behind an OpenAI-compatible endpoint or vLLM servers",
    "vllm": "vLLM in this environment (GPU); on a CPU: make test-vllm",
    "bench": "mmzero bench",
    "ray": "episodes and drawing on a Ray cluster",
    "librsvg": "the second drawing backend without a system library",
    "figures": "Python figures",
    "trackio": "Trackio",
    "wandb": "Weights & Biases",
    "docs": "make docs",
}
"""The extras that people install, with what each is for."""

_UNPINNED = ("vllm", "trackio")
"""Extras that want other versions than constraints.txt pins."""

_STACK = ("torch", "transformers", "trl", "peft", "accelerate", "vllm", "torchvision", "numpy")
"""Packages whose versions are known to break each other."""


def features() -> list[Finding]:
    """One finding an extra: its packages are there in versions that fit, or which are not."""
    return [_feature(extra, what) for extra, what in FEATURES.items()]


def _feature(extra: str, what: str) -> Finding:
    pins = "" if extra in _UNPINNED else "-c constraints.txt "
    try:
        wrong = [problem for each in _requirements(extra) if (problem := _problem(each))]
    except metadata.PackageNotFoundError:
        mend = f"pip install {pins}-e '.[{extra}]'"
        return Finding(extra, False, f"{PACKAGE} is not installed", mend)
    if not wrong:
        return Finding(extra, True, what)
    mend = f"pip install {pins}'{PACKAGE}[{extra}]'"
    return Finding(extra, False, f"{what}; {', '.join(wrong)}", mend)


def _requirements(extra: str) -> Iterator[Requirement]:
    """The requirements that an extra adds, those of extras that it takes in included."""
    for text in metadata.requires(PACKAGE) or ():
        requirement = Requirement(text)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name == PACKAGE:
            for inner in requirement.extras:
                yield from _requirements(inner)
        else:
            yield requirement


def _problem(requirement: Requirement) -> str:
    """What is wrong with an installed package, "" if nothing is."""
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} is {found}, needed is {requirement.specifier}"


def conflicts() -> list[Finding]:
    """Versions that do not go together, among the packages that training stands on."""
    found = [clash for name in _STACK for clash in _clashes(name)]
    if importlib.util.find_spec("torchvision") is not None:
        found += _torchvision()
    return found or [Finding("versions", True, "those installed go together")]


def _clashes(name: str) -> Iterator[Finding]:
    try:
        needs = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return
    for text in needs:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if problem := _problem(requirement):
            mend = f"pip install '{requirement.name}{requirement.specifier}'"
            title = f"{name} {metadata.version(name)}"
            yield Finding(title, False, problem, mend)


def _torchvision() -> Iterator[Finding]:
    """Torchvision of a CUDA build beside a CPU build of torch takes transformers down with it."""
    done = subprocess.run(
        [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        mend = (
            "pip uninstall torchvision (nothing here needs it), or the build that goes with torch"
        )
        yield Finding("torchvision", False, f"cannot be imported: {reason}", mend)


def gpus() -> list[Finding]:
    """One finding a GPU that torch can use, or why there is none."""
    if importlib.util.find_spec("torch") is None:
        return [Finding("GPU", False, "torch is not installed, so none was looked for")]
    import torch

    if torch.cuda.is_available():
        return [_gpu(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [Finding("GPU", True, "Apple (mps); not tested")]
    built = torch.version.cuda or torch.version.hip
    if built is None:
        detail, mend = f"torch {torch.__version__} is built for CPUs", ""
        if _has_driver():
            mend = "There is an NVIDIA driver: install the CUDA build of torch (pytorch.org)."
    else:
        detail = f"torch {torch.__version__} is built for {built}, but sees no GPU"
        mend = "Look at `nvidia-smi`: a driver too old for this build, or none."
    return [Finding("GPU", False, detail, mend)]


def _gpu(index: int) -> Finding:
    import torch

    facts = torch.cuda.get_device_properties(index)
    memory = f"{facts.total_memory / 1e9:.0f} GB"
    half = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
    return Finding(f"GPU {index}", True, f"{facts.name}, {memory}, {half}")


def _has_driver() -> bool:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
