"""``mmzero serve``: the vLLM servers that a preset needs, until Ctrl-C.

Standard output gets one line, the agent to play with; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mmzero_env.errors import EngineError, UserError

if TYPE_CHECKING:
    from agents.vllm_process import VllmProcess
    from trainers.run_config import RunConfig, ServeConfig

SERVE_LOGS = Path("runs/serve")

_LOOK_SECONDS = 0.5
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
    parser.add_argument(
        "--servers", type=int, metavar="N", help="independent servers, of each model"
    )
    parser.add_argument(
        "--gpus", metavar="0,1,…", help="GPU indices, tensor_parallel of them for each server"
    )
    parser.add_argument(
        "--python", metavar="PATH", help="Python of the environment with vLLM (default: this one)"
    )
    parser.add_argument(
        "--logs", type=Path, default=SERVE_LOGS, metavar="DIR", help="where the logs go"
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
    from agents.vllm_process import agent_of, start_all, stop_all
    from trainers import cli, config

    loaded = config.load(args.preset, cli.parse_settings(args.settings))
    given = {"port": args.port, "servers": args.servers, "model": args.model, "python": args.python}
    wanted = {name: value for name, value in given.items() if value is not None}
    loaded = replace(loaded, serve=replace(loaded.serve, **wanted))
    servers = make_servers(loaded, args.logs, _say, gpus=_indices(args.gpus))
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
        print(agent_of(servers, loaded.models), flush=True)
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


def make_servers(
    config: RunConfig, logs: Path, note: Callable[[str], None], *, gpus: Sequence[int] = ()
) -> list[VllmProcess]:
    """The servers of a run's ``serve`` table, not started yet.

    Args:
        config: The run; an empty ``serve.model`` is the model of the run.
        logs: Folder for their logs.
        note: Takes sentences about their start.
        gpus: GPUs to use, ``tensor_parallel`` of them for each server; empty leaves one server
            to CUDA and gives several the first ones in turn.

    Returns:
        ``serve.servers`` of them for each model, one model after the other.

    Raises:
        UserError: If the settings, the model, vLLM or a port cannot be used.
    """
    from agents.vllm_installation import Installation
    from agents.vllm_process import VllmProcess

    python = config.serve.python or None
    cpu = Installation.of(python, config.serve.device).cpu
    wanted, shares = _shares(config, list(gpus), cpu=cpu)
    if config.whole and cpu:
        _refuse_tied(wanted.model)
    return [
        VllmProcess(
            wanted.model,
            log_dir=logs,
            port=wanted.port + i if wanted.port else 0,
            gpus=shares[i],
            python=python,
            settings=wanted,
            whole=config.whole,
            note=note,
        )
        for i in range(len(shares))
    ]


def _refuse_tied(model: str) -> None:
    """Refuse a model that vLLM on a CPU would go on playing in part with its old weights."""
    from transformers import AutoConfig

    from agents.vllm_settings import find_model

    if AutoConfig.from_pretrained(find_model(model)[0]).get_text_config().tie_word_embeddings:
        raise UserError(
            f"{model} ties its output layer to its embeddings, and vLLM 0.31 on a CPU keeps a copy "
            "of that layer that new weights do not reach. Expected a model with "
            "tie_word_embeddings=false, a GPU, adapters (--set lora_rank=16) or --set policy=local"
        )


def _shares(
    config: RunConfig, gpus: list[int], *, cpu: bool
) -> tuple[ServeConfig, list[list[int]]]:
    """The settings with the model filled in, and the GPUs of every server."""
    models = config.models
    table = replace(config.serve, model=config.serve.model or base_of(config.model))
    each = table.tensor_parallel
    if gpus and table.servers == 1:
        table = replace(table, servers=max(1, len(gpus) // (each * models)))
    count = table.servers * models
    if gpus and len(gpus) != count * each:
        raise UserError(
            f"{count} servers with tensor_parallel={each} need {count * each} "
            f"GPUs; --gpus names {len(gpus)}"
        )
    if not gpus:
        # Without a choice CUDA would put every server onto the first GPU.
        gpus = list(range(count * each)) if count > 1 and not cpu else []
    return table, [gpus[i * each : (i + 1) * each] for i in range(count)]


def base_of(model: str) -> str:
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
        restarts = _revive(servers, restarts, _say)
        time.sleep(_LOOK_SECONDS)


def _revive(servers: Sequence[VllmProcess], restarts: int, note: Callable[[str], None]) -> int:
    """Start every server again that has ended; gives the number of restarts so far."""
    for server in servers:
        if server.running:
            continue
        restarts += 1
        if restarts > _RESTARTS:
            raise EngineError(
                f"the vLLM server at {server.url} ended again after {_RESTARTS} restarts; "
                f"its log is {server.log}"
            )
        note(
            f"the server at {server.url} ended by itself; starting it again "
            f"({restarts} of {_RESTARTS}; log: {server.log})"
        )
        try:
            server.restart()
        except EngineError as error:
            note(str(error))
        else:
            note(f"{server.name} answers at {server.url} again")
    return restarts


@contextmanager
def kept_alive(servers: Sequence[VllmProcess], note: Callable[[str], None]) -> Generator[None]:
    """Start servers, start them again when they end by themselves, stop them with the block.

    Requests wait for a server that is down; when it has ended too often it stays down, and
    they fail when their patience is over.

    Raises:
        EngineError: If a server does not start at all.
    """
    from agents.vllm_process import start_all, stop_all

    over = threading.Event()

    def look() -> None:
        restarts = 0
        try:
            while not over.wait(_LOOK_SECONDS):
                restarts = _revive(servers, restarts, note)
        except EngineError as error:
            note(str(error))

    watcher = threading.Thread(target=look, name="vllm servers", daemon=True)
    try:
        start_all(servers)
        watcher.start()
        yield
    finally:
        over.set()
        # A restart that is under way ends with the process that it waits for.
        stop_all(servers)
        if watcher.ident is not None:
            watcher.join()
        stop_all(servers)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
