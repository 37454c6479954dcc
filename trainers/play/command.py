"""``mmzero play``: what may be typed, and what it starts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, TOPICS

if TYPE_CHECKING:
    from trainers.play.keeping import Keeper
    from trainers.play.settings import PlaySettings


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mmzero``.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "play",
        help="show one episode, played by any agents or by you",
        description="Play one episode and show it while it unfolds: topic, proposal, codes, "
        "pictures, answers, votes and the rewards of every role, term by term.",
        epilog="examples: mmzero play · mmzero play --page --coder human · mmzero play --solver "
        "openai:MODEL@URL --design mm_zero_paper --seed 3",
    )
    for role in ROLES:
        parser.add_argument(
            f"--{role}",
            default="nano",
            metavar="AGENT",
            help="who plays it: an agent (nano, openai:MODEL@URL, …), a model folder, a folder of "
            "a run that holds one model a role, or human (default: nano)",
        )
    parser.add_argument("--topic", help=f"one of: {', '.join(TOPICS)} (default: by the seed)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="same seed, same episode (default: 0)"
    )
    parser.add_argument(
        "--design",
        default="mm_zero",
        metavar="NAME|TOML",
        help="reward design (default: mm_zero)",
    )
    parser.add_argument(
        "--codes", type=int, metavar="N", help="codes for the proposal (default: 2; 1 of a person)"
    )
    parser.add_argument(
        "--answers",
        type=int,
        metavar="K",
        help="answers to each question about each picture (default: 5; 1 of a person)",
    )
    parser.add_argument(
        "--prompts", metavar="NAME", help="prompt set (default: what each agent is used to)"
    )
    parser.add_argument(
        "--image-size", type=int, metavar="PX", help="side of the pictures (default: by the agent)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep the record and the pictures here"
    )
    parser.add_argument(
        "--editor", metavar="CMD", help="in the terminal: write your SVG with this command"
    )
    page = parser.add_argument_group("in a browser")
    page.add_argument(
        "--page", action="store_true", help="serve a page on this machine; prints its address"
    )
    page.add_argument(
        "--port", type=int, default=0, metavar="P", help="where it listens (default: a free port)"
    )
    page.add_argument("--open", action="store_true", help="open the page in the browser, too")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Play and show.

    Args:
        args: What the parser of :func:`add_parser` read.

    Returns:
        0 when the episode is over, or the page was closed by Ctrl-C.

    Raises:
        UserError: If something that was asked for does not exist or does not go together.
        EngineError: If an agent or the renderer failed.
    """
    if not args.page and (args.port or args.open):
        raise UserError("--port and --open are for the page: add --page.")
    if args.page and args.editor:
        raise UserError("--editor is for the terminal; on the page you write into a field.")
    from mmzero_env.rendering import check_system
    from trainers.play import keeping, settings

    settled = settings.settle(
        {role: getattr(args, role) for role in ROLES},
        seed=args.seed,
        topic=args.topic,
        design=args.design,
        codes=args.codes,
        answers=args.answers,
        prompts=args.prompts,
        image_size=args.image_size,
    )
    if settled.people and not args.page and not sys.stdin.isatty():
        raise UserError(
            f"--{settled.people[0]} human needs somebody to ask, and the input is no terminal: "
            "run it in a terminal, or add --page to play in a browser."
        )
    if missing := check_system():
        raise UserError("\n".join(missing))
    keeper = None if args.out is None else keeping.Keeper(args.out)
    if args.page:
        from trainers.play import page

        return page.run(settled, keeper, port=args.port, show=args.open)
    return _in_terminal(settled, keeper, args.editor)


def _in_terminal(settled: PlaySettings, keeper: Keeper | None, editor: str | None) -> int:
    from rich.console import Console

    from mmzero_env.rendering import Renderer
    from trainers.play.game import Game
    from trainers.play.terminal import Terminal
    from trainers.play.terminal_person import TerminalPerson

    console = Console(highlight=False)
    terminal = Terminal(console, settled)
    with Renderer(settled.image_size) as renderer:
        person = TerminalPerson(terminal, renderer, editor=editor) if settled.people else None
        try:
            with console.status("loading the agents …"):
                game = Game(settled, renderer, person)
            with game:
                record = game.play(settled.seed, settled.topic_of(settled.seed), terminal.tell)
        finally:
            terminal.close()
        if keeper is not None:
            terminal.say("")
            for path in keeper.keep(record):
                terminal.say(f"written: {path}")
    return 0
