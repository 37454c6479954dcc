"""lmms-eval as a process in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.downstream.sets import HARNESS_VERSION
from mmzero_env.errors import EngineError, UserError

DRIVER = Path(__file__).with_name("driver.py")
ENVIRONMENT = Path(".venv-eval")
MAKE = "make lmms-eval"
HUB = "https://huggingface.co"

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def hub_answers(seconds: float = 5.0) -> bool:
    """Whether the Hugging Face hub, or the mirror of it that ``HF_ENDPOINT`` names, answers.

    Asked once, since the hub's client tries for a minute and a half a set before it gives up.
    """
    asked = Request(os.environ.get("HF_ENDPOINT", HUB), method="HEAD")
    try:
        with urlopen(asked, timeout=seconds):
            return True
    except HTTPError:
        # It answered, if only to say no.
        return True
    except OSError:
        return False


def find(given: Path | None) -> Path:
    """The Python of an environment that holds lmms-eval.

    Args:
        given: A Python, or an environment; by default ``.venv-eval`` here or beside the source.

    Returns:
        Its path, links not followed, since a link names the environment.

    Raises:
        UserError: If there is none; says which command makes it.
    """
    if given is not None:
        python = given / "bin" / "python" if given.is_dir() else given
        if not python.is_file():
            raise UserError(f"--harness {given} is no Python and no environment with one.")
        return python.absolute()
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        python = folder / ENVIRONMENT / "bin" / "python"
        if python.is_file():
            return python
    raise UserError(
        "lmms-eval lives in an environment of its own, .venv-eval, and there is none here. "
        f"Make it with: {MAKE}, or name another Python that has it: --harness PATH"
    )


class Harness:
    """The running driver. One order at a time; closing it ends the process.

    Attributes:
        versions: Of Python and the packages that matter, as the process reported them.
    """

    def __init__(self, python: Path, log: Path, *, offline: bool = False):
        """Start it, which takes some seconds.

        Args:
            python: See :func:`find`.
            log: File that gets everything lmms-eval says; it is appended to.
            offline: Read sets from local copies and the hub's cache only.

        Raises:
            UserError: If that Python cannot import lmms-eval, or another version of it.
        """
        self._log_path = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), "-P", str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # lmms-eval reads a file .env where it starts.
            cwd=log.parent,
            # Its tasks make clients of judges when they are read, and those want a key; they
            # are never used. The key of an endpoint goes through the pipe.
            env={**os.environ, "OPENAI_API_KEY": "none"} | (_OFFLINE if offline else {}),
        )
        try:
            self.versions: Mapping[str, str] = self._answer()["versions"]
        except EngineError as error:
            self.close()
            raise UserError(
                f"{python} cannot run lmms-eval ({error}). Make an environment that can: {MAKE}"
            ) from error
        found = self.versions.get("lmms_eval")
        if found != HARNESS_VERSION:
            self.close()
            raise UserError(
                f"{python} has lmms-eval {found}; the table of sets is that of {HARNESS_VERSION}. "
                f"Make an environment with it: {MAKE}"
            )

    def look(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Read a set; ``{"items", "columns", "repository"}``, or ``{"error"}`` if it cannot."""
        return self._do("look", set=order)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have a part of a set asked and its answers written; see ``driver.Harness.ask``.

        Raises:
            EngineError: If lmms-eval failed; names the log.
        """
        answer = self._do("ask", **order)
        if "error" in answer:
            raise EngineError(
                f"lmms-eval failed: {answer['error']}. What it said is in {self._log_path}"
            )
        return answer

    def close(self) -> None:
        """End the process. Safe to repeat."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe().close()
        self._log.close()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        # In the middle of an order it would first finish that.
        self._process.terminate()
        self.close()

    def _do(self, what: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **order}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._pipe().readline()
        if not line:
            code = self._process.wait()
            raise EngineError(
                f"the process of lmms-eval ended with code {code}: {self._last_words()}; "
                f"its log is {self._log_path}"
            )
        return json.loads(line)

    def _pipe(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
