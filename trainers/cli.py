"""The command line: ``mmzero evolve``, ``eval``, ``play``, ``bench``, ``report`` and more.

Exit codes: 0 done, 1 a failure of ours (finished stages are saved), a replay that came
out different, a plan that does not fit or a machine that cannot render, 2 a mistake in what
was asked, 130 stopped by Ctrl-C. Results go to standard output, progress and errors to
standard error. Heavy imports happen inside the commands, so that ``mmzero --help`` is quick
and ``mmzero report`` needs no torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mmzero_env.errors import EngineError, UserError
from trainers import eval_command, export_command, plan_command, ranks, serve
from trainers.play import command as play_command
from trainers.version import version

if TYPE_CHECKING:
    from trainers.report.run_data import Probe
    from trainers.run_config import RunConfig

RUNS = Path("runs")
COMMANDS = "mmzero.commands"
"""Entry point group of commands that packages above this one bring."""
# Every module of the extra that the loop imports, for one clear message instead
# of whichever ImportError happens to come first.
EXTRAS = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tensorboard"),
    "eval": ("aiohttp", "psutil"),
    "bench": ("torch", "trl", "psutil", "matplotlib", "stable_baselines3"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    args = build_parser().parse_args(argv)
    args.line = ("mmzero", *(sys.argv[1:] if argv is None else argv))
    try:
        return args.command(args)
    except UserError as error:
        _complain(str(error))
        return 2
    except ranks.MainRankStopped:
        # It says why itself.
        return 1
    except EngineError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="mmzero",
        description="Three roles of one vision-language model train each other from zero data.",
    )
    parser.add_argument("--version", action="version", version=f"mmzero-env {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    evolve = commands.add_parser(
        "evolve",
        help="run the self-evolution loop",
        description="Train Proposer, Coder and Solver in turn, measure the truth after every "
        "iteration, write a run directory and its report.",
        epilog="example: mmzero evolve --preset nano-cpu --iterations 3 --set solver.steps=40",
    )
    evolve.add_argument("--preset", help="named settings to start from (default: nano-cpu)")
    evolve.add_argument(
        "--out", type=Path, metavar="DIR", help="run directory, new or empty (default: under runs/)"
    )
    evolve.add_argument("--iterations", type=int, metavar="N", help="how many iterations")
    evolve.add_argument("--seed", type=int, metavar="S", help="seed of everything random")
    evolve.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting; may be repeated",
    )
    evolve.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the run in DIR where it stopped; its settings are kept",
    )
    evolve.add_argument("--quiet", action="store_true", help="no progress, only the result")
    evolve.set_defaults(command=_evolve)

    eval_command.add_parser(commands)
    report = commands.add_parser(
        "report",
        help="(re)write the report of a run",
        description="Write report.html into a run directory, finished or not.",
        epilog="example: mmzero report runs/nano-cpu --watch",
    )
    report.add_argument("run", type=Path, metavar="RUN_DIR", help="a run directory")
    report.add_argument(
        "--watch",
        action="store_true",
        help="write it anew while the run goes on, until it is finished or Ctrl-C",
    )
    report.add_argument(
        "--interval",
        type=float,
        default=10,
        metavar="SECONDS",
        help="between two looks at the run with --watch (default: 10)",
    )
    report.set_defaults(command=_report)

    replay = commands.add_parser(
        "replay",
        help="render and score recorded episodes again",
        description="Play recorded episodes again and compare pictures, votes and rewards, bit "
        "for bit. Exit code 0: all identical; 1: some differ.",
        epilog="example: mmzero replay runs/nano-cpu --workers 2",
    )
    replay.add_argument(
        "path", type=Path, metavar="PATH", help=".jsonl or .parquet, a folder of them, or a run"
    )
    replay.add_argument("--design", metavar="NAME", help="score by this design, not the recorded")
    replay.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that draw (default: 1)"
    )
    replay.set_defaults(command=_replay)

    doctor = commands.add_parser(
        "doctor",
        help="say what this machine has and what is missing",
        description="Look for what rendering needs and what protects it, what each feature lacks, "
        "versions that do not go together, and GPUs; each missing thing with the command that "
        "mends it. Exit code 0: rendering works; 1: it does not.",
    )
    doctor.add_argument("--json", action="store_true", help="print for machines")
    doctor.set_defaults(command=_doctor)
    play_command.add_parser(commands)
    serve.add_parser(commands)
    plan_command.add_parser(commands)
    export_command.add_parser(commands)
    bench = commands.add_parser(
        "bench",
        help="compare reward designs, reward hacks and speed",
        add_help=False,
        prefix_chars="\0",
    )
    bench.add_argument("words", nargs=argparse.REMAINDER)
    bench.set_defaults(command=_bench)
    return parser


def _evolve(args: argparse.Namespace) -> int:
    """``mmzero evolve``."""
    require("train", "mmzero evolve")
    from trainers import evolve, progress

    together = ranks.join()
    out, config = together.share(lambda: _asked(args))
    shown = progress.choose(quiet=args.quiet or not together.is_main)
    try:
        evolve.run(config, resume=args.resume is not None, progress=shown, ranks=together)
        together.leave()
    except KeyboardInterrupt:
        if not together.is_main:
            return 130
        shown.close()
        print(f"\nstopped; finished stages are saved. {_how_to_resume(out)}", file=sys.stderr)
        return 130
    except ranks.MainRankStopped:
        raise
    except EngineError:
        shown.close()
        # The reason comes last, where one looks first.
        if (out / "config.json").is_file():
            print(f"finished stages are saved. {_how_to_resume(out)}", file=sys.stderr)
        raise
    finally:
        shown.close()
    if together.is_main:
        _finish(out)
    return 0


def _asked(args: argparse.Namespace) -> tuple[Path, RunConfig]:
    """The run that ``mmzero evolve`` was asked for, checked, and its directory."""
    from trainers import config as configs

    if args.resume is not None:
        _refuse_beside_resume(args)
        check_system()
        return args.resume, configs.read(args.resume)
    out = _new_run_directory(args)
    check_system()
    return out, configs.load(args.preset or "nano-cpu", _overrides(args, out))


def _refuse_beside_resume(args: argparse.Namespace) -> None:
    """A resumed run keeps its settings: anything that would change them is refused."""
    given = {
        "--preset": args.preset,
        "--out": args.out,
        "--iterations": args.iterations,
        "--seed": args.seed,
        "--set": args.settings or None,
    }
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UserError(
            f"--resume goes on with the settings of the run in {args.resume}; "
            f"it cannot be combined with {', '.join(wrong)}."
        )
    if not (args.resume / "config.json").is_file():
        raise UserError(
            f"{args.resume} holds no config.json; --resume expects a run directory "
            "of `mmzero evolve`."
        )


def _new_run_directory(args: argparse.Namespace) -> Path:
    """Where a new run goes: ``--out`` if it is empty, else the first free name under runs/."""
    if args.out is None:
        base = RUNS / (args.preset or "nano-cpu")
        out, number = base, 1
        while out.exists():
            number += 1
            out = base.with_name(f"{base.name}-{number}")
        return out
    out = args.out
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; expected a new or an empty directory.")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{out} is not empty. To go on with the run in it: mmzero evolve --resume "
            f"{shlex.quote(str(out))}. For a new run choose another --out."
        )
    return out


def _overrides(args: argparse.Namespace, out: Path) -> dict[str, str]:
    """All changes to the preset as text, by key."""
    changes = parse_settings(args.settings)
    named = {"iterations": args.iterations, "seed": args.seed, "out": out}
    for key, value in named.items():
        if value is None:
            continue
        if key in changes:
            raise UserError(f"{key} is given twice: by --{key} and by --set.")
        changes[key] = str(value)
    return changes


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """What ``--set KEY=VALUE`` was given, by key.

    Raises:
        UserError: For a text that is not such a pair.
    """
    changes: dict[str, str] = {}
    for setting in pairs:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set expects KEY=VALUE, got {setting!r}.")
        changes[key.strip()] = value.strip()
    return changes


def _how_to_resume(out: Path) -> str:
    return f"Resume with: mmzero evolve --resume {shlex.quote(str(out))}"


def _finish(out: Path) -> None:
    """What a finished run leaves on the screen: the table of truth and where the report is."""
    from trainers import report

    data = report.load(out)
    written = report.write(out)
    if data.probe is not None:
        print_table(
            "true accuracy of each role before → after each iteration, with 95 % intervals",
            data.probe,
        )
    print(f"report: {written.path}")


def _report(args: argparse.Namespace) -> int:
    """``mmzero report``."""
    from trainers import report
    from trainers.report import watch

    if args.watch:
        watch.watch(args.run, args.interval)
        return 0
    written = report.write(args.run)
    for sentence in written.notes:
        print(f"note: {sentence}", file=sys.stderr)
    print(f"report: {written.path}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    """``mmzero replay``."""
    check_system()
    from trainers import replay

    return replay.run(args.path, args.design, args.workers)


def _bench(args: argparse.Namespace) -> int:
    """``mmzero bench``."""
    require("bench", "mmzero bench")
    return plugged("bench")(args.words)


def _doctor(args: argparse.Namespace) -> int:
    """``mmzero doctor``."""
    from trainers import doctor

    return doctor.run(as_json=args.json)


def print_table(title: str, probe: Probe) -> None:
    """A probe as a table on standard output; as wide as it needs when that is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    from trainers.report import accuracy

    heading, *body = accuracy.text_table(probe)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(title=title, title_justify="left")
    for name in heading:
        table.add_column(name, justify="left" if name in ("role", "metric") else "right")
    previous = ""
    for row in body:
        if previous and row[0] != previous:
            table.add_section()
        table.add_row(row[0] if row[0] != previous else "", *row[1:])
        previous = row[0]
    console.print(table)


def plugged(name: str) -> Callable[..., int]:
    """What another package does for a command, such as the benchmarks, which build on this one.

    Args:
        name: Of the entry point in the group ``mmzero.commands``.

    Raises:
        UserError: If no installed package brings it.
    """
    for point in metadata.entry_points(group=COMMANDS, name=name):
        return point.load()
    raise UserError(
        f"no installed package brings the command {name!r} (entry point group {COMMANDS!r}). "
        "Install this one anew: pip install -e ."
    )


def require(extra: str, command: str) -> None:
    """Stop with the pip command when a module of an extra is not installed."""
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{command} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            f"not installed. Add it with: pip install 'mmzero-env[{extra}]'"
        )


def check_system() -> None:
    """Stop with the install command when a system library is not there."""
    from mmzero_env.rendering import check_system

    missing = check_system()
    if missing:
        raise UserError("\n".join(missing))


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
