"""``mmzero plan``: what a run would take, before it is started.

Exit codes: 0 the run fits, 1 it does not (the answer names the nearest settings that do), 2 a
mistake in what was asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mmzero_env.errors import UserError

if TYPE_CHECKING:
    from trainers.plan import Assumptions, Plan

# Flag, its group and field in Assumptions, and what it says; the defaults come from there.
_FLAGS = (
    ("--proposal-tokens", "guesses", "proposal", "mean tokens of a proposal"),
    ("--code-tokens", "guesses", "code", "mean tokens of a code"),
    ("--answer-tokens", "guesses", "answer", "mean tokens of an answer"),
    ("--letters-per-token", "guesses", "letters", "characters a token of a prompt"),
    ("--parsed", "guesses", "parsed", "share of proposals that parse"),
    ("--rendered", "guesses", "rendered", "share of codes that render"),
    ("--kept", "guesses", "kept", "share of a pool that passes the filters"),
    ("--tflops", "speeds", "tflops", "peak of a GPU in bfloat16, TFLOP/s"),
    ("--bandwidth", "speeds", "bandwidth", "of a GPU's memory, TB/s"),
    ("--mfu", "speeds", "mfu", "share of the peak in training"),
    ("--prefill-mfu", "speeds", "prefill_mfu", "share of the peak while prompts are read"),
    ("--decode-share", "speeds", "decode", "share of the bandwidth while tokens are sampled"),
    ("--rows", "speeds", "rows", "rows that an engine decodes at a time"),
    ("--tokens-per-second", "speeds", "tokens", "of one engine; 0 derives it"),
    ("--render-seconds", "speeds", "render", "CPU seconds a drawing"),
    ("--process-reserve", "reserves", "process", "GB of CUDA context and fragments"),
    ("--engine-reserve", "reserves", "engine", "GB of an engine's activations and graphs"),
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mmzero``.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "plan",
        help="say what a run takes of memory and time before it is started",
        description="Memory by part, work and time of a preset. Nothing is loaded. Exit code 0: "
        "it fits; 1: it does not, and the nearest settings that do are named.",
        epilog="example: mmzero plan --preset qwen3vl-8b-1x80gb --gpu-memory 48",
    )
    parser.add_argument("--preset", default="nano-cpu", help="what to plan (default: nano-cpu)")
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="GPUs (default: what the preset's name says)"
    )
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="memory of each, in 10^9 bytes"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print for machines")
    group = parser.add_argument_group("assumptions, each with a default that the plan prints")
    for flag, _, _, text in _FLAGS:
        group.add_argument(flag, type=float, metavar="X", help=text)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Plan and print.

    Args:
        args: What the parser of :func:`add_parser` read.

    Returns:
        0 if the run fits, else 1.

    Raises:
        UserError: If the preset, a setting, the machine or an assumption cannot be, or the
            model's configuration cannot be had.
    """
    from trainers import cli, config

    cli.require("train", "mmzero plan")
    from trainers import plan
    from trainers.plan_layout import Hardware

    loaded = config.load(args.preset, cli.parse_settings(args.settings))
    hardware = Hardware.of(args.preset, args.gpus, args.gpu_memory)
    assumptions = _assumptions(args)
    made = plan.make(loaded, hardware, assumptions)
    if args.json:
        print(json.dumps({**made.json(), "assumptions": _values(assumptions)}, indent=2))
    else:
        _show(made, assumptions)
    return 0 if made.fits else 1


def _assumptions(args: argparse.Namespace) -> Assumptions:
    from trainers.plan import Assumptions
    from trainers.plan_layout import GB

    default = Assumptions()
    changed: dict[str, dict[str, Any]] = {"guesses": {}, "speeds": {}, "reserves": {}}
    for flag, group, name, _ in _FLAGS:
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value is None:
            continue
        if value < 0 or (value == 0 and name != "tokens"):
            raise UserError(f"{flag} must be above 0, got {value:g}")
        kind = type(getattr(getattr(default, group), name))
        changed[group][name] = kind(value * GB if group == "reserves" else value)
    return Assumptions(
        **{group: type(getattr(default, group))(**values) for group, values in changed.items()}
    )


def _values(assumptions: Assumptions) -> dict[str, float]:
    return {
        f"{group.name}.{field.name}": getattr(getattr(assumptions, group.name), field.name)
        for group in fields(assumptions)
        for field in fields(getattr(assumptions, group.name))
    }


def _show(plan: Plan, assumptions: Assumptions) -> None:
    """Tables on standard output."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=110)
    shape, config = plan.shape, plan.config
    console.print(
        f"{config.preset}: {shape.name}, {shape.parameters:,} parameters, "
        f"{plan.layout.text(plan.hardware.gpus)}",
        highlight=False,
    )
    for table in (*_memory_tables(plan), _work_table(plan), _time_table(plan)):
        console.print(table)
    _show_assumptions(plan, assumptions, console)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(_verdict(plan), highlight=False, soft_wrap=True)


def _verdict(plan: Plan) -> str:
    if plan.fits:
        return "It fits."
    from trainers.plan import gigabytes

    reasons = [
        each.problem
        or f"{each.place} would need {gigabytes(each.total)} GB of {gigabytes(each.room)} GB"
        for each in plan.memory
        if not each.fits
    ]
    text = "It does not fit: " + "; ".join(reasons) + "."
    if plan.suggestion is None:
        return f"{text} No setting of this model that was tried fits, on up to 64 such GPUs."
    return f"{text}\nNearest that fits: {plan.suggestion.text(plan.hardware)}"


def _memory_tables(plan: Plan) -> list[Any]:
    from rich.table import Table

    from trainers.plan import gigabytes

    tables = []
    for each in plan.memory:
        table = Table(title=f"memory of {each.place}, GB", title_justify="left")
        table.add_column("part")
        table.add_column("GB", justify="right")
        for name, size in each.parts.items():
            table.add_row(name, gigabytes(size))
        table.add_section()
        table.add_row(f"total, of {gigabytes(each.room)}", gigabytes(each.total))
        tables.append(table)
    return tables


def _work_table(plan: Plan) -> Any:
    from rich.table import Table

    table = Table(title="work of one iteration", title_justify="left")
    table.add_column("")
    columns = {**plan.work, "iteration": plan.iteration}
    for name in columns:
        table.add_column(name, justify="right")
    for field in fields(plan.iteration):
        values = (f"{round(getattr(work, field.name)):,}" for work in columns.values())
        table.add_row(field.name.replace("_", " "), *values)
    return table


def _time_table(plan: Plan) -> Any:
    from rich.table import Table

    table = Table(title="estimate of time, hours", title_justify="left")
    table.add_column("")
    for name in plan.time:
        table.add_column(name, justify="right")
    table.add_column("iteration", justify="right")
    for name in ("reading", "sampling", "drawing", "training", "total"):
        hours = [getattr(seconds, name) / 3600 for seconds in plan.time.values()]
        if name == "total":
            table.add_section()
        table.add_row(name, *(f"{hour:.2f}" for hour in (*hours, sum(hours))))
    return table


def _show_assumptions(plan: Plan, assumptions: Assumptions, console: Any) -> None:
    from trainers.plan_layout import GB

    console.print("assumed (change by the flag):", highlight=False)
    for flag, group, name, text in _FLAGS:
        value = getattr(getattr(assumptions, group), name)
        if group == "reserves":
            value /= GB
        shown = f"{plan.tokens_a_second:,.0f}, derived" if name == "tokens" else f"{value:g}"
        if name == "tokens" and value:
            shown = f"{value:g}"
        console.print(f"  {flag} {shown}: {text}", highlight=False)
    total = sum(seconds.total for seconds in plan.time.values()) * plan.config.iterations / 3600
    console.print(
        f"{plan.config.iterations} iterations: about {total:.0f} hours; loading, checkpoints and "
        "stragglers are not counted",
        highlight=False,
    )
