"""``mmzero serve``: the vLLM servers that a preset needs, until Ctrl-C.

Standard output gets one line, the agent to play with; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mmzero_env.errors import EngineError, UserError

if TYPE_CHECKING:
    from agents.vllm_process import VllmProcess
    from trainers.config import RunConfig, ServeConfig

_RESTARTS = 3
"""Times a server that ended by itself is started again before all of them are given up."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mmzero``.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "serve",
        help="start the vLLM servers that a preset needs",
        description="Start vLLM servers on this machine's loopback address, wait until they "
        "answer, print the agent that plays with them, and run until Ctrl-C. A server that ends "
        "by itself is started again.",
        epilog="example: mmzero serve --preset nano-cpu --python .venv-vllm/bin/python",
    )
    parser.add_argument(
        "--preset", default="nano-cpu", help="whose [serve] table to use (default: nano-cpu)"
    )
    parser.add_argument("--model", help="base model: nano, a folder, or a hub id")
    parser.add_argument("--port", type=int, metavar="P", help="first port (default: free ones)")
    parser.add_argument("--servers", type=int, metavar="N", help="independent servers")
    parser.add_argument(
        "--gpus", metavar="0,1,…", help="GPU indices, tensor_parallel of them for each server"
    )
    parser.add_argument(
        "--python", metavar="PATH", help="Python of the environment with vLLM (default: this one)"
    )
    parser.add_argument(
        "--logs", type=Path, default=Path("runs/serve"), metavar="DIR", help="where the logs go"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting, e.g. serve.max_model_len=8192; may be repeated",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Start, serve, stop.

    Args:
        args: What the parser of :func:`add_parser` read.

    Returns:
        0 when it was asked to stop.

    Raises:
        UserError: If the settings, the model, vLLM or a port cannot be used.
        EngineError: If a server does not start, or ended too often.
    """
    from agents.vllm_installation import Installation
    from agents.vllm_process import VllmProcess, agent_of, start_all, stop_all
    from trainers import cli, config

    loaded = config.load(args.preset, cli.parse_settings(args.settings))
    cpu = Installation.of(args.python, loaded.serve.device).cpu
    wanted, gpus = _wanted(loaded, args, cpu=cpu)
    servers = [
        VllmProcess(
            wanted.model,
            log_dir=args.logs,
            port=wanted.port + i if wanted.port else 0,
            gpus=gpus[i],
            python=args.python,
            settings=wanted,
            note=_say,
        )
        for i in range(wanted.servers)
    ]
    # The signal to terminate stops us as Ctrl-C does, and Ctrl-C does so in a script's
    # background, too, where it would be ignored.
    stops = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: _interrupt()) for number in stops]
    serving = False
    try:
        start_all(servers)
        serving = True
        for server in servers:
            _say(f"{server.name} answers at {server.url} (log: {server.log})")
        _say("Ctrl-C stops. Play with:")
        print(agent_of(servers), flush=True)
        _watch(servers)
    except KeyboardInterrupt:
        if not serving:
            raise
        _say("stopping")
    finally:
        stop_all(servers)
        for number, handler in zip(stops, previous, strict=True):
            signal.signal(number, handler)
    return 0


def _wanted(
    loaded: RunConfig, args: argparse.Namespace, *, cpu: bool
) -> tuple[ServeConfig, list[list[int]]]:
    """The settings with the command line's own on top, and the GPUs of each server."""
    table = loaded.serve
    given = {
        name: value
        for name, value in (("port", args.port), ("servers", args.servers))
        if value is not None
    }
    model = args.model or table.model or _base(loaded.model)
    each = table.tensor_parallel
    gpus = _indices(args.gpus)
    if gpus:
        given.setdefault("servers", max(1, len(gpus) // each))
    table = replace(table, model=model, **given)
    if gpus and len(gpus) != table.servers * each:
        raise UserError(
            f"{table.servers} servers with tensor_parallel={each} need {table.servers * each} "
            f"GPUs; --gpus names {len(gpus)}"
        )
    if not gpus:
        # Without a choice CUDA would put every server onto the first GPU.
        gpus = list(range(table.servers * each)) if table.servers > 1 and not cpu else []
    return table, [gpus[i * each : (i + 1) * each] for i in range(table.servers)]


def _base(model: str) -> str:
    """The base model behind an agent, for presets that name only that."""
    kind, _, argument = model.partition("?")[0].partition(":")
    if kind == "transformers":
        return argument
    if kind in ("vllm", "vllm-engine"):
        return argument.partition("@")[0]
    if kind == "nano":
        return "nano"
    raise UserError(
        f"the preset's model is {model!r}, which vLLM cannot serve; name one: --model nano, "
        "a model folder or a hub id"
    )


def _indices(text: str | None) -> list[int]:
    if not text:
        return []
    try:
        found = [int(word) for word in text.split(",")]
        if min(found) < 0:
            raise ValueError
    except ValueError:
        raise UserError(f"--gpus expects indices such as 0,1, got {text!r}") from None
    return found


def _watch(servers: Sequence[VllmProcess]) -> NoReturn:
    """Start servers again that end by themselves, until there is no hope."""
    restarts = 0
    while True:
        for server in servers:
            if server.running:
                continue
            restarts += 1
            if restarts > _RESTARTS:
                raise EngineError(
                    f"the vLLM server at {server.url} ended again after {_RESTARTS} restarts; "
                    f"its log is {server.log}"
                )
            _say(
                f"the server at {server.url} ended by itself; starting it again "
                f"({restarts} of {_RESTARTS}; log: {server.log})"
            )
            try:
                server.restart()
            except EngineError as error:
                _say(str(error))
            else:
                _say(f"{server.name} answers at {server.url} again")
        time.sleep(0.5)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
