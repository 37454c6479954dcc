import subprocess
import sys
from importlib import metadata

import pytest

from trainers import inventory

NEEDS = [
    "numpy>=2",
    'absent-package>=1; extra == "train"',
    'numpy>=999; extra == "bench"',
    f'{inventory.PACKAGE}[train]; extra == "bench"',
    'numpy>=2; extra == "ray"',
    'no-such-thing; extra == "ray" and python_version < "3"',
]


@pytest.fixture
def needs(monkeypatch):
    def says(lists):
        monkeypatch.setattr(metadata, "requires", lambda name: lists.get(name))

    return says


def test_an_extra_says_what_is_missing_or_too_old_and_how_to_get_it(needs):
    needs({inventory.PACKAGE: NEEDS})
    found = {finding.name: finding for finding in inventory.features()}
    assert found["ray"].ok and found["ray"].mend == ""
    assert found["train"].detail.endswith("; absent-package is missing")
    assert found["train"].mend == "pip install -c constraints.txt 'mmzero-env[train]'"
    # An extra that takes in another has its needs, too.
    assert f"numpy is {metadata.version('numpy')}, needed is >=999" in found["bench"].detail
    assert "absent-package is missing" in found["bench"].detail
    assert found["docs"].ok, "an extra that needs nothing lacks nothing"


def test_the_extras_that_are_looked_for_exist():
    there = set(metadata.metadata(inventory.PACKAGE).get_all("Provides-Extra"))
    assert there >= inventory.FEATURES.keys()


def test_versions_that_do_not_go_together_are_named_with_both(needs):
    needs({"trl": ["numpy<1", 'absent; extra == "vllm"'], "peft": ["numpy>=2"]})
    (found,) = inventory.conflicts()
    assert not found.ok and found.name == f"trl {metadata.version('trl')}"
    assert found.detail == f"numpy is {metadata.version('numpy')}, needed is <1"
    assert found.mend == "pip install 'numpy<1'"


def test_what_is_installed_here_goes_together():
    assert [finding.detail for finding in inventory.conflicts() if not finding.ok] == []


def test_a_torchvision_that_breaks_imports_is_found(monkeypatch):
    monkeypatch.setattr(inventory.importlib.util, "find_spec", lambda name: object())
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: no torchvision::nms")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    found = inventory.conflicts()[-1]
    assert found.detail == "cannot be imported: RuntimeError: no torchvision::nms"
    assert found.mend.startswith("pip uninstall torchvision")


def test_a_machine_without_a_gpu_says_why(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (found,) = inventory.gpus()
    assert not found.ok and "built for CPUs" in found.detail
    monkeypatch.setattr(inventory, "_has_driver", lambda: True)
    assert "CUDA build of torch" in inventory.gpus()[0].mend
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (found,) = inventory.gpus()
    assert "built for 13.0, but sees no GPU" in found.detail and "nvidia-smi" in found.mend


def test_the_doctor_shows_all_of_it(capsys):
    from trainers import cli

    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("features", "bench", "versions", "GPU", sys.version[:4]))
