"""``mmzero eval``: a model against the truth, on the probe or on downstream sets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from trainers import agent_folders
from trainers.version import version

if TYPE_CHECKING:
    from agents.policy import Policy
    from mmzero_env.protocol import Role


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mmzero``.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "eval",
        help="measure a model against the truth",
        description="Measure how well a model plays each role (--suite probe), or how its Solver "
        "does on downstream sets, which lmms-eval runs in an environment of its own. An "
        "evaluation that is stopped goes on where it was when it is called again with the same "
        "--out.",
        epilog="examples: mmzero eval runs/nano-cpu/checkpoints/iter-2 --suite probe; "
        "mmzero eval vllm:MODEL@URL --base openai:BASE@URL --suite paper --data DIR",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an agent (nano, openai:MODEL@URL, transformers:PATH-or-ID, …), a model folder, or a "
        "folder of a run that holds one model a role",
    )
    parser.add_argument(
        "--suite",
        default="probe",
        help="probe (default); paper, the paper's twelve sets; or names of sets with commas "
        "between: mmmu, chartqa, …, mmzero-probe",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write eval.json here, too")
    parser.add_argument("--items", type=int, metavar="N", help="how many test items of each set")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of items and sampling")
    parser.add_argument("--prompts", metavar="NAME", help="prompt set that the model understands")
    sets = parser.add_argument_group("downstream sets")
    sets.add_argument("--base", metavar="MODEL", help="compare with this; a run knows its own")
    sets.add_argument("--no-base", action="store_true", help="evaluate the model alone")
    sets.add_argument(
        "--data", type=Path, metavar="DIR", help="local copies of the sets, a folder for each"
    )
    sets.add_argument(
        "--harness", type=Path, metavar="PATH", help="another Python that has lmms-eval"
    )
    sets.add_argument("--judge", metavar="MODEL", help="also graded by it, as openai:MODEL@URL")
    sets.add_argument(
        "--pictures",
        choices=("both", "with", "without"),
        default="both",
        help="ask with the pictures, without them, or both (default)",
    )
    sets.add_argument("--samples", type=int, default=8, metavar="N", help="answers an item (8)")
    sets.add_argument("--temperature", type=float, default=0.6, metavar="T", help="(0.6)")
    sets.add_argument("--top-p", type=float, default=0.95, metavar="P", help="(0.95)")
    sets.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer (4096; 160 for nano)"
    )
    sets.add_argument(
        "--concurrency", type=int, default=64, metavar="N", help="requests at a time (64)"
    )
    sets.add_argument(
        "--quick", action="store_true", help="16 items of each set, spread over it, as a try"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate.

    Args:
        args: What the parser of :func:`add_parser` read.

    Returns:
        0.

    Raises:
        UserError: For a mistake in what was asked.
        EngineError: If a model failed.
    """
    from trainers import cli

    if args.items is not None and args.items < 1:
        raise UserError(f"--items expects a positive number, got {args.items}.")
    if args.suite != "probe":
        cli.require("eval", f"mmzero eval --suite {args.suite}")
        return cli.plugged("downstream")(args)
    _refuse_beside_probe(args)
    cli.check_system()
    policies = _policies(args.model)
    from trainers import evaluate
    from trainers.report.run_data import Estimate, Probe

    options = {
        name: value
        for name, value in (("items", args.items), ("prompts", args.prompts))
        if value is not None
    }
    scores = evaluate.evaluate(policies, seed=args.seed, **options)
    estimates = {name: (Estimate(s.mean, s.low, s.high, s.n),) for name, s in scores.items()}
    cli.print_table(f"{args.suite}: {args.model}, with 95 % intervals", Probe((0,), estimates))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / "eval.json"
        result = {
            "model": args.model,
            "suite": args.suite,
            "seed": args.seed,
            "version": version(),
            "metrics": {name: vars(found[0]) for name, found in estimates.items()},
        }
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written: {path}")
    return 0


def _refuse_beside_probe(args: argparse.Namespace) -> None:
    given = {
        "--base": args.base,
        "--no-base": args.no_base or None,
        "--data": args.data,
        "--harness": args.harness,
        "--judge": args.judge,
        "--quick": args.quick or None,
    }
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: for downstream sets only, and --suite is probe; "
            "name some: --suite paper"
        )


def _policies(model: str) -> Mapping[Role, Policy]:
    """One policy a role from what was typed: an agent, a model folder, a folder of three."""
    specs = [agent_folders.spec_of(model, role) for role in ROLES]
    if any(not spec.startswith(("scripted:", "openai:")) for spec in specs):
        from trainers import cli

        cli.require("train", f"mmzero eval {model}")
    import agents

    made = {spec: agents.make(spec) for spec in dict.fromkeys(specs)}
    return {role: made[spec] for role, spec in zip(ROLES, specs, strict=True)}
