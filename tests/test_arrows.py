"""Imports point one way, and no file grows beyond what one noun needs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("mmzero_env", "agents", "trainers", "benchmarks")
HEAVY = {"torch", "transformers", "trl", "vllm", "stable_baselines3"}
LONGEST = 500


def sources(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path):
    """First names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("layer", LAYERS)
def test_no_package_imports_one_that_builds_on_it(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    wrong = {str(p.relative_to(ROOT)): above & set(imported(p)) for p in sources(layer)}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_environment_imports_no_model_library():
    wrong = {str(p.relative_to(ROOT)): HEAVY & set(imported(p)) for p in sources("mmzero_env")}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_no_file_is_longer_than_500_lines():
    lengths = {
        p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources(*LAYERS, "tests")
    }
    assert {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LONGEST} == {}
