"""Does self-evolution work, and what of it is needed?

    mmzero bench study                        # every arm of benchmarks/study.toml, hours
    mmzero bench study --quick                # four arms, small, in 15 minutes
    mmzero bench study --table main           # the arms of one table and figure
    mmzero bench study --arms mm_zero --seeds 0 --workers 2

Trains the nano model under every arm of a plan and several seeds at equal rollouts, and writes
every metric of every iteration with 95 % intervals over seeds and items. A run that is stopped
goes on where it was when the command is called again with the same ``--out``; tables and figures
are made of the runs that are finished.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, Cells, seeds_of
from benchmarks.command import shared_options
from benchmarks.provenance import RESULTS, provenance, write_result
from mmzero_env.errors import UserError, unknown
from trainers import atomic

if TYPE_CHECKING:
    from benchmarks.study_measures import ArmRuns
    from benchmarks.study_plan import Arm, Plan

FILE = "study.json"
FOLDER = "study"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``mmzero bench study``."""
    parser = commands.add_parser(
        "study",
        help="does the nano model learn, iteration by iteration, and what of the method is needed",
        description="Train the nano model under every arm of a plan, over several seeds at equal "
        "rollouts, and measure the truth after every iteration.",
    )
    shared_options(parser, "study", quick="a small version of four arms that ends in 15 minutes")
    parser.add_argument(
        "--plan", type=Path, metavar="FILE", help="another plan than benchmarks/study.toml"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--arms", metavar="NAME,…", help="these arms alone; names with commas")
    chosen.add_argument("--table", metavar="NAME", help="the arms of one table of the plan alone")
    parser.add_argument("--seeds", metavar="SEEDS", help="such as 0-2 or 0,3 (default: the plan's)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="runs at the same time, one thread each (default: %(default)s)",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write results, figures and finished runs into benchmarks/results as well",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Train what is missing, print the tables, and write ``study.json`` and the figures."""
    if args.publish and args.quick:
        raise UserError("--quick is too small to be published; leave out one of the two")
    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, got {args.workers}")
    # Only now: they load torch.
    from benchmarks.study_plan import PLAN, read_plan

    plan = read_plan(args.plan or PLAN, quick=args.quick)
    seeds = tuple(seeds_of(args.seeds)) if args.seeds else plan.seeds
    chosen = _chosen(args, plan)
    folder: Path = args.out / (FOLDER if not args.quick else f"{FOLDER}-quick")
    if args.publish and not (folder / "cells.jsonl").exists():
        _take_over(RESULTS / FOLDER, folder)
    cells = Cells(folder, _settings(plan))
    _refuse_changed_arms(plan, cells, folder)
    work = {
        f"{arm.name}/{seed}": _task(plan, arm, seed, folder)
        # Seed by seed, so that a table over fewer seeds is there early.
        for seed in seeds
        for arm in chosen.arms.values()
    }
    cells.run(work, title="study", workers=args.workers)
    _report(args, plan, cells, seeds, folder)
    return 0


def _chosen(args: argparse.Namespace, plan: Plan) -> Plan:
    if args.table is not None:
        if args.table not in plan.tables:
            raise unknown("table of the plan", args.table, plan.tables)
        return plan.only([name for name in plan.tables[args.table] if name in plan.arms])
    return plan.only(args.arms.split(",")) if args.arms else plan


def _settings(plan: Plan) -> dict[str, object]:
    """Everything that a run depends on but its arm and seed."""
    return {"preset": plan.preset, "iterations": plan.iterations, **plan.settings}


def _refuse_changed_arms(plan: Plan, cells: Cells, folder: Path) -> None:
    """A finished run counts for an arm only as long as the plan says the same of it."""
    for key, cell in cells.done.items():
        arm = plan.arms.get(key.rpartition("/")[0])
        if arm is not None and cell["settings"] != dict(arm.settings):
            raise UserError(
                f"{folder}: {key} was trained with {cell['settings']}, and the plan now says "
                f"{dict(arm.settings)}. Give the arm another name, or choose another --out"
            )


def _task(plan: Plan, arm: Arm, seed: int, folder: Path) -> Callable[[], Cell]:
    from benchmarks.study_run import play

    return partial(play, plan, arm, seed, folder / f"{arm.name}-{seed}")


def _take_over(published: Path, folder: Path) -> None:
    """Begin with the finished runs that are published, so that none is trained twice."""
    if (published / "cells.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(published, folder, dirs_exist_ok=True)


def _report(
    args: argparse.Namespace, plan: Plan, cells: Cells, seeds: Sequence[int], folder: Path
) -> None:
    from benchmarks.collapse import markdown
    from benchmarks.study_figures import curves, strip
    from benchmarks.study_measures import ArmRuns, changes, claims, differences, table
    from benchmarks.study_run import SCORES, read_scores

    arms: dict[str, ArmRuns] = {}
    for name in plan.arms:
        keys = [f"{name}/{seed}" for seed in seeds if f"{name}/{seed}" in cells.done]
        if len(keys) == len(seeds):
            scores = [read_scores(folder / key.replace("/", "-") / SCORES) for key in keys]
            arms[name] = ArmRuns([cells.done[key] for key in keys], scores)
        else:
            print(f"not finished: {name}, {len(keys)} of {len(seeds)} seeds")
    if not arms:
        return
    targets = [args.out, *((RESULTS,) if args.publish else ())]
    told = {name: claims(runs) for name, runs in arms.items()}
    result = {
        **provenance(args.words, seeds),
        "settings": _settings(plan),
        "about": {name: asdict(plan.arms[name]) for name in arms},
        "claims": {name: [asdict(claim) for claim in found] for name, found in told.items()},
        "arms": {name: runs.as_json() for name, runs in arms.items()},
    }
    tables = {n: [a for a in names if a in arms] for n, names in plan.tables.items()}
    # One arm alone is no comparison.
    tables = {title: names for title, names in tables.items() if len(names) > 1}
    for target in targets:
        write_result(target / FILE, result)
        for title, names in tables.items():
            some = {name: arms[name] for name in names}
            tabled = (table(some), changes(some), differences(some))
            text = "\n".join(markdown(lines) for lines in tabled)
            atomic.write_text(target / f"study-{title}.md", text)
            curves(target / f"study-{title}.svg", _title(title, seeds), some)
        for name, runs in arms.items():
            if runs.cells[0]["strip"]:
                shown = f"{name}, seed {seeds[0]}: the same topics across the iterations"
                strip(target / f"study-strip-{name}.svg", shown, runs.cells[0]["strip"])
    if args.publish:
        _publish(folder, cells)
    for title, names in tables.items():
        _show(_title(title, seeds), {name: arms[name] for name in names})
    for name, found in told.items():
        for claim in found:
            print(f"{name}: {'holds' if claim.holds else 'FAILS'}: {claim.text}: {claim.found}")
    print(f"results: {args.out / FILE}")


def _publish(folder: Path, cells: Cells) -> None:
    """Keep what the finished runs found beside the results, without their run directories."""
    from benchmarks.study_run import SCORES

    kept = RESULTS / FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "cells.jsonl", kept / "cells.jsonl")
    for key in cells.done:
        name = key.replace("/", "-")
        (kept / name).mkdir(exist_ok=True)
        shutil.copyfile(folder / name / SCORES, kept / name / SCORES)


def _title(table: str, seeds: Sequence[int]) -> str:
    return f"{table}: mean over {len(seeds)} seed{'s' * (len(seeds) > 1)} [95 % interval]"


def _show(title: str, arms: Mapping[str, ArmRuns]) -> None:
    from benchmarks.study_measures import SHOWN

    shown = Table(title=title)
    shown.add_column("")
    for name in arms:
        shown.add_column(name)
    for metric, heading in SHOWN.items():
        found = [runs.metric(metric) for runs in arms.values()]
        texts = [
            " → ".join("?" if each is None else each.text(2) for each in (one[0], one[-1]))
            for one in found
        ]
        shown.add_row(heading, *texts)
    Console(file=sys.stdout).print(shown)
