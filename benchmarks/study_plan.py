"""The plan of the study: its arms, what each changes, and the tables they make."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError, unknown
from trainers import config as configs
from trainers.run_config import RunConfig

PLAN = Path(__file__).with_name("study.toml")
"""The plan that comes with the project."""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: In tables and in the results.
        about: A sentence.
        settings: What is different from the plan's settings, as ``mmzero evolve --set`` takes it.
        zero_data: False for an arm that is told the truth.
    """

    name: str
    about: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    zero_data: bool = True


@dataclass(frozen=True)
class Plan:
    """What is trained and what is shown.

    Attributes:
        preset: Preset that every run starts from.
        seeds: One run an arm and a seed.
        iterations: Of every run.
        settings: What is different from the preset in every run.
        arms: By name, in the order in which they are run.
        tables: Names of arms by the name of a table.
    """

    preset: str
    seeds: tuple[int, ...]
    iterations: int
    settings: Mapping[str, str]
    arms: Mapping[str, Arm]
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def config(self, arm: Arm, seed: int, folder: Path) -> RunConfig:
        """The settings of one run, checked.

        Raises:
            UserError: For a setting that does not exist or cannot be.
        """
        try:
            return configs.load(
                self.preset,
                {
                    "iterations": str(self.iterations),
                    **self.settings,
                    **arm.settings,
                    "seed": str(seed),
                    "out": str(folder),
                },
            )
        except UserError as error:
            raise UserError(f"arm {arm.name!r} of the plan: {error}") from error

    def only(self, names: Sequence[str]) -> Plan:
        """The same plan with some of its arms, in the plan's order.

        Raises:
            UserError: For an arm that it does not have.
        """
        for name in names:
            if name not in self.arms:
                raise unknown("arm", name, self.arms)
        return replace(self, arms={n: arm for n, arm in self.arms.items() if n in names})


def read_plan(path: Path, *, quick: bool = False) -> Plan:
    """Read a plan.

    Args:
        path: A TOML file as :data:`PLAN`.
        quick: Take the small size that the table ``quick`` describes.

    Raises:
        UserError: If the file cannot be read or says what no run can do; the message names it.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the plan {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"the plan {path} is no TOML file: {error}") from error
    try:
        plan = _plan(found, quick)
        for arm in plan.arms.values():
            plan.config(arm, 0, Path("run"))
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error
    return plan


def _plan(found: Mapping[str, Any], quick: bool) -> Plan:
    known = {each.name for each in fields(Plan)} | {"quick"}
    for name in found:
        if name not in known:
            raise unknown("key of the plan", name, known)
    small: Mapping[str, Any] = found.get("quick", {}) if quick else {}
    if quick and not small:
        raise UserError("it has no table [quick]; leave out --quick")
    arms = {name: _arm(name, said) for name, said in found.get("arms", {}).items()}
    if not arms:
        raise UserError("it has no arm; expected at least one table [arms.NAME]")
    tables = {name: tuple(names) for name, names in found.get("tables", {}).items()}
    plan = Plan(
        str(found.get("preset", "nano-cpu")),
        _seeds(small.get("seeds", found.get("seeds", [0, 1, 2]))),
        _whole("iterations", small.get("iterations", found.get("iterations", 10))),
        _texts({**found.get("settings", {}), **small.get("settings", {})}),
        arms,
        tables,
    )
    for names in tables.values():
        plan.only(names)
    return plan.only(small["arms"]) if "arms" in small else plan


def _arm(name: str, said: Mapping[str, Any]) -> Arm:
    known = {each.name for each in fields(Arm)} - {"name"}
    for key in said:
        if key not in known:
            raise unknown(f"key of the arm {name!r}", key, known)
    return Arm(
        name,
        str(said.get("about", "")),
        _texts(said.get("settings", {})),
        bool(said.get("zero_data", True)),
    )


def _texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as they are typed: TOML's ``true`` and numbers become text again."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings.items()
    }


def _seeds(found: object) -> tuple[int, ...]:
    if (
        not isinstance(found, list)
        or not found
        or not all(type(seed) is int for seed in found)
        or len(set(found)) < len(found)
    ):
        raise UserError(f"seeds: expected whole numbers, each once, such as [0, 1, 2], got {found}")
    return tuple(found)


def _whole(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise UserError(f"{name}: expected a whole number from 1, got {value!r}")
    return value
