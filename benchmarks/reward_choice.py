"""Which reward designs are compared: registered ones, and files."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError, unknown
from mmzero_env.rewards import DESIGNS, RewardDesign, get_design
from mmzero_env.rewards.design_files import SUFFIX

UNTRAINED = ", Proposer untrained"


@dataclass(frozen=True)
class Choice:
    """A reward design that takes part.

    Attributes:
        source: What :func:`mmzero_env.rewards.get_design` takes: a name or the path of a file.
        design: The design.
        untrained: Whether the Proposer stays as it is while Coder and Solver learn: the
            baseline that tells what proposing well is worth.
    """

    source: str
    design: RewardDesign
    untrained: bool = False

    @property
    def name(self) -> str:
        """Name in the table."""
        return self.design.name + (UNTRAINED if self.untrained else "")

    @property
    def key(self) -> str:
        """Name and a digest of everything that the design says: a changed file is another one.

        What stands at its default is left out, so that cells survive a new constant.
        """
        said = content_of(self.design)
        usual = content_of(RewardDesign("", proposer={}, coder={}, solver={}))
        constants = {k: v for k, v in said["constants"].items() if v != usual["constants"][k]}
        rest = {k: v for k, v in said.items() if v != usual[k]}
        content = json.dumps({**rest, "constants": constants}, sort_keys=True)
        mark = "-untrained" if self.untrained else ""
        return f"{self.design.name}{mark}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def content_of(design: RewardDesign) -> dict[str, Any]:
    """Everything that a design says, its name and its summary aside, as plain data."""
    values = {f.name: getattr(design, f.name) for f in fields(design)}
    return {
        name: dict(value)
        if isinstance(value, Mapping)
        else asdict(value)
        if is_dataclass(value) and not isinstance(value, type)
        else value
        for name, value in values.items()
        if name not in ("name", "summary")
    }


def design_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--designs`` and ``--design``, what :func:`choose` takes."""
    parser.add_argument(
        "--designs", metavar="NAMES", help="registered designs with commas between (default: all)"
    )
    parser.add_argument(
        "--design",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a design in a TOML file; may be repeated",
    )


def choose(names: str | None, files: Sequence[Path]) -> list[Choice]:
    """The designs that were asked for.

    Args:
        names: Registered designs with commas between; None takes all, in their order, and
            behind the first of them the same with an untrained Proposer.
        files: Design files, after those.

    Raises:
        UserError: For an unknown name, a file that cannot be used, or a name that comes twice.
    """
    listed = list(DESIGNS) if names is None else [each.strip() for each in names.split(",")]
    for name in listed:
        if name not in DESIGNS:
            raise unknown("reward design", name, DESIGNS)
    for path in files:
        if path.suffix != SUFFIX:
            raise UserError(f"--design expects a {SUFFIX} file, got {path}")
    chosen = [Choice(str(each), get_design(each)) for each in (*listed, *files)]
    if names is None:
        chosen.insert(1, replace(chosen[0], untrained=True))
    named = [each.name for each in chosen]
    for each in chosen:
        if named.count(each.name) > 1:
            raise UserError(
                f"two designs are named {each.name!r}, and a table needs one each; give the file "
                'another name = "…"'
            )
    return chosen
