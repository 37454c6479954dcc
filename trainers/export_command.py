"""``mmzero export``: self-made data as a dataset, a trained role as a model, to keep or to share.

Everything is written into a folder first. Only ``--push-to-hub`` sends it anywhere.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from mmzero_env.protocol import Role
    from trainers.run_config import RunConfig

Kind = Literal["dataset", "model"]


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mmzero``.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "export",
        help="write a run's data or a trained role for others to use",
        description="Write what a run made into a folder: its data as a Hugging Face dataset "
        "(Parquet with pictures and a card), or a trained role as a model folder with a card. "
        "Nothing leaves this machine without --push-to-hub.",
        epilog="example: mmzero export dataset runs/nano-cpu --out export/nano-data",
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, dest="kind")
    data = kinds.add_parser("dataset", help="pictures, questions, silver labels, whole episodes")
    data.add_argument(
        "--only-kept",
        action="store_true",
        help="only questions that pass the run's filters, those the Solver would learn from",
    )
    model = kinds.add_parser("model", help="a role's weights after an iteration")
    model.add_argument("--role", default="solver", help="proposer, coder or solver (the default)")
    model.add_argument("--iteration", type=int, metavar="N", help="default: the last")
    for each in (data, model):
        each.add_argument("run", type=Path, metavar="RUN_DIR", help="a run directory")
        each.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="new or empty folder"
        )
        each.add_argument("--license", metavar="ID", help="licence named in the card")
        each.add_argument(
            "--push-to-hub",
            metavar="REPO",
            help="send the folder to this repository of the Hugging Face hub (USER/NAME)",
        )
        each.add_argument("--private", action="store_true", help="make a new repository private")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Write the folder, and push it if that was asked for.

    Raises:
        UserError: If the run, the role or the folder cannot be used.
        EngineError: If the hub refuses; the folder is complete then.
    """
    from mmzero_env.errors import UserError, unknown
    from mmzero_env.protocol import ROLES
    from trainers import atomic, cli

    cli.require("train", "mmzero export")
    out: Path = args.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is not a new or an empty folder.")
    if args.kind == "model" and args.role not in ROLES:
        raise unknown("role", args.role, ROLES)
    if args.private and not args.push_to_hub:
        raise UserError("--private only says how --push-to-hub makes a repository.")
    with atomic.new_folder(out) as draft:
        said = _dataset(args, draft) if args.kind == "dataset" else _model(args, draft)
    print(f"{said}: {out}")
    if args.push_to_hub:
        print(f"pushed: {_push(out, args.push_to_hub, args.kind, args.private)}")
    return 0


def _dataset(args: argparse.Namespace, draft: Path) -> str:
    from huggingface_hub import DatasetCardData

    from trainers import config as configs
    from trainers import export_data

    config = configs.read(args.run)
    found = export_data.write(args.run, draft, only_kept=args.only_kept)
    metadata = DatasetCardData(
        license=args.license or _license(config),
        task_categories=["visual-question-answering"],
        pretty_name=f"Self-made data of {config.model}",
        tags=["mm-zero", "synthetic", "self-play"],
        configs=[
            {"config_name": "questions", "data_files": "questions/*.parquet", "default": True},
            {"config_name": "episodes", "data_files": "episodes/*.parquet"},
        ],
    )
    _card(
        draft,
        "dataset_card.md",
        metadata=metadata.to_yaml(),
        config=asdict(config),
        model=config.model,
        label_source=config.design().label_source,
        found=found,
        only_kept=args.only_kept,
        name=args.push_to_hub or args.out,
    )
    return f"{found.rows} questions and {found.episodes} episodes"


def _model(args: argparse.Namespace, draft: Path) -> str:
    from huggingface_hub import ModelCardData

    from trainers import config as configs
    from trainers import export_model
    from trainers.report import run_data

    role = cast("Role", args.role)
    config = configs.read(args.run)
    iteration = export_model.write(args.run, role, args.iteration, draft)
    adapter = export_model.is_adapter(draft)
    base = export_model.base_of(draft, config.model)
    metadata = ModelCardData(
        license=args.license or _license(config),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text",
        # "nano" is a name of this package, not of the hub.
        base_model=None if base == "nano" or Path(base).exists() else base,
        tags=["mm-zero", "grpo", "self-play", role],
    )
    _card(
        draft,
        "model_card.md",
        metadata=metadata.to_yaml(),
        config=asdict(config),
        stage=asdict(config.stage(role)),
        role=role,
        iteration=iteration,
        base=base,
        adapter=adapter,
        scores=export_model.scores(run_data.load(args.run), role, iteration),
        loaded=args.push_to_hub or args.out,
        words=_words(config),
    )
    return f"the {role} after iteration {iteration}"


def _words(config: RunConfig) -> str:
    """The arguments that make the run again: the preset, and what differs from it."""
    from trainers import config as configs

    usual = asdict(configs.load(config.preset, {"out": config.out}))
    changes = []
    for key, value in _flat(asdict(config)).items():
        if key != "out" and _flat(usual).get(key) != value:
            changes += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(["--preset", config.preset, *changes])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _license(config: RunConfig) -> str | None:
    """The bundled model's licence is known; that of any other model's output is not ours to say."""
    return "apache-2.0" if config.model == "nano" else None


def _card(folder: Path, template: str, **values: object) -> None:
    """Write README.md, the card.

    The texts come from settings and counts, never from a model, so nothing is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from trainers.version import version

    templates = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates), undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template(template).render(version=version(), **values)
    (folder / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _push(folder: Path, repo: str, kind: Kind, private: bool) -> str:
    """Send a folder to the hub; returns the address of the commit."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    from mmzero_env.errors import EngineError, UserError

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message="Export of an MM-Zero run",
        )
    except HFValidationError as error:
        raise UserError(f"--push-to-hub expects USER/NAME, got {repo!r} ({error}).") from error
    except (LocalTokenNotFoundError, HfHubHTTPError, OSError) as error:
        raise EngineError(
            f"{folder} is complete, but was not pushed to {repo}: {error}. Log in with "
            f"`hf auth login`, and push it with: hf upload {shlex.quote(repo)} "
            f"{shlex.quote(str(folder))} --repo-type {kind}"
        ) from error
    return str(done)
