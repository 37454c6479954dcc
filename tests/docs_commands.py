"""The commands and the blocks of code of README, CONTRIBUTING and the pages under docs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "agents" / "nano" / "model" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
# What a line outside a ```bash block, or a piece of code within a sentence, begins with to be taken
# for a command. In ```bash blocks every line is one.
_PROGRAMS = (
    r"(?:[A-Z_]+=\S+ )*(?:\.venv\S*/)?"
    r"(?:mmzero|make|accelerate|pip|pip3|python -m|ray|wandb|trackio|tensorboard|hf|vllm|brew|ssh|"
    r"sudo)"
)
_LINE = re.compile(rf"^ {{4}}(?P<command>{_PROGRAMS} .*)$", re.MULTILINE)
_INLINE = re.compile(rf"(?<!`)`(?P<command>{_PROGRAMS} [^`\n]+)`(?!`)")
_BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command as a page has it.

    Attributes:
        page: Where it stands.
        text: As it stands there, without its comment.
        words: Without variables before it, options in brackets, and what "…" leaves open.
        options: The words in brackets.
    """

    page: Path
    text: str
    words: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.page.stem}: {self.text[:70]}"


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: Path
    language: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page.stem}: {self.code.strip().splitlines()[-1][:50]}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, found["language"], found["code"]) for found in _BLOCK.finditer(text)]


def commands() -> Iterator[Command]:
    """Every command of every page, continued lines joined."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in blocks(page):
            if block.language == "bash":
                for line in block.code.replace("\\\n", " ").splitlines():
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield _command(page, line)
        for pattern in (_LINE, _INLINE):
            for found in pattern.finditer(text):
                yield _command(page, found["command"])


def _command(page: Path, line: str) -> Command:
    text = re.sub(r"\s+#.*", "", line).strip()
    bracket = r"\[([^\]]*)\](?=\s|$)"
    options = " ".join(re.findall(bracket, text)).replace("…", "").split()
    bare = re.sub(bracket, "", text)
    bare = re.sub(r"--set \S*(…|\.\.\.)", "", bare).replace("--preset …", "")
    words = [word for word in shlex.split(bare) if word not in ("…", "...")]
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    return Command(page, text, tuple(words), tuple(options))
