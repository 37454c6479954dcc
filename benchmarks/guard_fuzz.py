"""Mutate the corpora and see whether anything gets past the guard, or brings it down.

    python -m benchmarks.guard_fuzz --count 100000 --seed 0
    python -m benchmarks.guard_fuzz --count 10000 --draw-share 0.05
    python -m benchmarks.guard_fuzz --seed 0 --only 4711      # one case again, printed

What passes is checked with means of its own: another parser (expat), another reading of
CSS. Exit status 1 if anything escaped; the document is kept in ``runs/guard_fuzz``.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import script
from benchmarks.findings import Findings, Table
from benchmarks.svg_mutation import Mutator, corpus_seeds
from mmzero_env.protocol import Failure, RenderJob
from mmzero_env.rendering import Renderer, RenderLimits, vet
from mmzero_env.rendering.cost import drawing_cost

SLOW_SECONDS = 1.0
"""CPU time of the guard on one code beyond which the case counts as escaped."""

_SVG = "{http://www.w3.org/2000/svg}"
_BANNED = frozenset(
    "script image feImage foreignObject iframe video audio canvas object embed animate set "
    "animateTransform animateMotion tref cursor font-face font-face-uri color-profile a img "
    "handler listener link".split()
)
_WORDS = frozenset("id class role lang tabindex".split())
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?|\\(.)", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|$)", re.DOTALL)
_FETCH = re.compile(
    r"(?:url|image|image-set|src|cross-fade|expression)\s*\(\s*(['\"]?)\s*(.?)", re.I
)
_BIG = re.compile(r"(?<![\w#.-])(\d+\.?\d*(?:e[+-]?\d+)?)", re.IGNORECASE)
_LENGTHS = frozenset("x y width height r rx ry cx cy x1 y1 x2 y2 d points font-size".split())


class EscapeError(AssertionError):
    """A document that passed the guard and should not have, or not like this."""


@dataclass
class Tally:
    """What came of a run.

    Attributes:
        verdicts: How often the guard gave each reason, ``"passes"`` among them.
        drawings: The same for the drawings: a reason, or ``"drawn"``.
        slowest: CPU seconds and number of the case that the guard took longest for.
        escaped: Number, problem and code of every failure.
        limited: Number and reason of the drawings that only a limit of the worker ended:
            not wrong, but the guard should have seen it coming.
    """

    verdicts: Counter[str]
    drawings: Counter[str]
    slowest: tuple[float, int]
    escaped: list[tuple[int, str, str]]
    limited: list[tuple[int, str]]


def examine(code: str, limits: RenderLimits) -> str:
    """The guard's verdict on one code.

    Returns:
        ``"passes"`` or the reason of the refusal.

    Raises:
        EscapeError: What passed breaks a promise of the guard.
    """
    verdict = vet(code, limits)
    if isinstance(verdict, Failure):
        if verdict.stage != "render" or not re.fullmatch(r"[a-z_]+", verdict.reason):
            raise EscapeError(f"a reason without a name: {verdict}")
        if not verdict.detail:
            raise EscapeError(f"{verdict.reason} without a sentence")
        return verdict.reason
    data = verdict.to_bytes()
    check_output(data, limits)
    cost = drawing_cost(verdict.root, limits)
    if cost > limits.max_cost:
        raise EscapeError(f"drawing cost {cost:g} passed")
    again = vet(data.decode("utf-8"), limits)
    if isinstance(again, Failure):
        raise EscapeError(f"its own output is refused: {again.reason}, {again.detail}")
    if again.to_bytes() != data:
        raise EscapeError("its own output is changed by a second look")
    return "passes"


def check_output(data: bytes, limits: RenderLimits) -> None:
    """Look for anything that should not have stayed, without the guard's own means.

    Args:
        data: A document that passed, as UTF-8 XML.
        limits: Caps that it has to keep.

    Raises:
        EscapeError: Something stayed.
    """
    if len(data) > limits.max_bytes:
        raise EscapeError(f"{len(data)} bytes passed")
    for mark in (b"<!", b"<?"):
        if mark in data:
            raise EscapeError(f"{mark.decode()} stayed in the document")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise EscapeError(f"its own output is not XML: {error}") from None
    count = letters = 0
    level = [root]
    depth = 0
    while level:
        depth += 1
        count += len(level)
        for element in level:
            _check_element(element, limits)
            if element.tag != f"{_SVG}style":
                letters += len((element.text or "").strip())
            letters += sum(len((child.tail or "").strip()) for child in element)
        level = [child for element in level for child in element]
    for name, value, most in (
        ("elements", count, limits.max_elements),
        ("levels", depth, limits.max_depth),
        ("letters", letters, limits.max_text),
    ):
        if value > most:
            raise EscapeError(f"{value} {name} passed")


def fuzz(
    count: int,
    seed: int = 0,
    draw_share: float = 0.0,
    backend: str = "cairosvg",
    progress: Progress | None = None,
) -> Tally:
    """Examine mutated documents, number 0 to ``count - 1``.

    Args:
        count: How many.
        seed: With the number it makes the case: every case can be repeated alone.
        draw_share: Share of the passing documents that are drawn too, in a worker.
        backend: What draws them.
        progress: Shows how far it is.

    Returns:
        The counts; nothing is raised because of a document.
    """
    limits = RenderLimits()
    mutator = Mutator(corpus_seeds(), seed)
    tally = Tally(Counter(), Counter(), (0.0, -1), [], [])
    task = progress.add_task("examining", total=count) if progress else None
    renderer = Renderer(size=448, workers=1, backend=backend)
    with renderer:
        for number in range(count):
            code = mutator.case(number)
            start = time.process_time()
            try:
                verdict = examine(code, limits)
                if verdict == "passes" and mutator.chance(number) < draw_share:
                    [drawing] = renderer.render([RenderJob(str(number), code)])
                    reason = "drawn" if drawing.failure is None else drawing.failure.reason
                    tally.drawings[reason] += 1
                    if reason.startswith("render_"):
                        tally.limited.append((number, reason))
            # Whatever it is, it is the finding.
            except Exception as error:
                verdict = "ESCAPED"
                tally.escaped.append((number, f"{type(error).__name__}: {error}", code))
            spent = time.process_time() - start
            tally.verdicts[verdict] += 1
            tally.slowest = max(tally.slowest, (spent, number))
            if spent > SLOW_SECONDS:
                tally.escaped.append((number, f"took {spent:.2f} s", code))
            if progress is not None and task is not None:
                progress.update(task, advance=1)
    return tally


def _check_element(element: ElementTree.Element, limits: RenderLimits) -> None:
    tag = element.tag
    if not tag.startswith(_SVG) or tag[len(_SVG) :] in _BANNED:
        raise EscapeError(f"<{tag}> stayed")
    for name, value in element.attrib.items():
        local = name.rpartition("}")[2].lower()
        if len(value) > limits.max_attribute:
            raise EscapeError(f"{len(value)} characters of {name} passed")
        if local.startswith("on"):
            raise EscapeError(f"{name} stayed")
        if local in ("href", "base", "src") and not (local == "href" and value.startswith("#")):
            raise EscapeError(f"{name}={value[:60]!r} stayed")
        if local.startswith(("data-", "aria-")) or local in _WORDS:
            continue
        _check_css(f"{name} of <{tag[len(_SVG) :]}>", value)
        if local in _LENGTHS:
            for number in _BIG.findall(value):
                if float(number) > limits.max_number:
                    raise EscapeError(f"{name} holds {number}")
    if tag == f"{_SVG}style":
        text = "".join(element.itertext())
        if "@" in _plain(text):
            raise EscapeError(f"an at-rule stayed: {text[:80]!r}")
        _check_css("a style sheet", text)


def _check_css(where: str, text: str) -> None:
    for reading in (text, _plain(text)):
        for _, first in _FETCH.findall(reading):
            if first != "#":
                raise EscapeError(f"{where} refers elsewhere: {text[:80]!r}")
        if "javascript:" in reading.lower():
            raise EscapeError(f"{where} holds a script: {text[:80]!r}")


def _plain(text: str) -> str:
    """CSS without comments and escapes, as a generous reader would take it."""

    def character(match: re.Match[str]) -> str:
        if match[2]:
            return match[2]
        point = int(match[1], 16)
        return chr(point) if 0 < point < 0x110000 else "\ufffd"

    return _ESCAPE.sub(character, _COMMENT.sub("", text))


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw-share", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--backend", default="cairosvg")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="print one case and examine it")
    parser.add_argument("--save", type=Path, default=Path("runs/guard_fuzz"), metavar="FOLDER")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Fuzz, and save what escaped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        tally = fuzz(args.count, args.seed, args.draw_share, args.backend, progress)
    seconds, slowest = tally.slowest
    tables = [
        Table(
            "mutated documents",
            (
                "documents",
                "seed",
                "past the guard and should not be",
                "slowest, CPU ms",
                "its case",
            ),
            (
                (
                    f"{args.count:,}",
                    str(args.seed),
                    f"{len(tally.escaped):,}",
                    f"{seconds * 1e3:.0f}",
                    str(slowest),
                ),
            ),
            "Time is that of the guard, two independent checks and, where drawn, the asking.",
        )
    ]
    for title, counts in (("verdicts", tally.verdicts), ("drawings", tally.drawings)):
        if counts:
            rows = tuple((reason, f"{number:,}") for reason, number in counts.most_common())
            tables.append(Table(title, ("reason", "documents"), rows))
    notes = [f"{reason}: case {number}" for number, reason in tally.limited]
    for number, problem, code in tally.escaped:
        args.save.mkdir(parents=True, exist_ok=True)
        path = args.save / f"seed{args.seed}-case{number}.svg"
        path.write_bytes(code.encode("utf-8", "surrogatepass"))
        notes.append(f"escaped: case {number}, {path}: {problem}")
    return Findings(
        {
            "count": args.count,
            "verdicts": dict(tally.verdicts),
            "drawings": dict(tally.drawings),
            "slowest": {"cpu_seconds": seconds, "case": slowest},
            "escaped": [{"case": n, "problem": problem} for n, problem, _ in tally.escaped],
            "ended_by_a_limit": [{"case": n, "reason": reason} for n, reason in tally.limited],
        },
        tuple(tables),
        notes=tuple(notes),
        seeds=(args.seed,),
        packages=("lxml", "cairosvg", "tinycss2", "cssselect2"),
        ok=not tally.escaped,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz and print; exit code 1 if anything escaped."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.only is None:
        return script.run("guard_fuzz", parser, measure, argv)
    code = Mutator(corpus_seeds(), args.seed).case(args.only)
    sys.stdout.write(code.encode("utf-8", "backslashreplace").decode() + "\n")
    print(examine(code, RenderLimits()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
