"""Many codes in, as many drawings out: a pool of persistent render workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from mmzero_env.errors import EngineError, UserError, unknown
from mmzero_env.protocol import CODE_FORMS, CodeForm, Drawing, Failure, RenderJob
from mmzero_env.rendering.backends import Backend, backend_target, load_backend
from mmzero_env.rendering.crew import Crew
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.figures import FigureSandbox
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.sandbox import MODES, Sandbox
from mmzero_env.rendering.spawner import mend


class JobRenderer(Protocol):
    """What is needed of a renderer; one that has ``workers`` gets portions to match."""

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw every job, in order."""
        ...


class Renderer:
    """Draws codes in worker processes, each code under its limits.

    Workers start with the first call and stay; they are forked from a helper process that
    has imported what drawing needs, so a new one is ready in milliseconds. A worker that
    hangs, crashes or runs out of memory is replaced; only the code it was drawing fails,
    by name: ``render_timeout``, ``render_memory`` or ``render_crash``. Whatever could be
    the machine's doing (a wall-clock limit, a crash, a kill from outside) counts only if
    it happens again when the code is drawn once more with no other code beside it.

    The drawings depend on code, size, limits and backend, never on ``workers`` or on
    ``sandbox``.

    On Linux a worker has no network, opens no files that drawing does not need and starts
    no programs, as far as the machine allows; :attr:`sandbox` says how far that is.

    With ``workers=0`` codes are drawn in the calling process: the guard stands, but
    nothing limits time and memory. That is for notebooks and tests, not for model output
    in bulk.

    Examples:
        >>> from mmzero_env.protocol import RenderJob
        >>> red = '<svg viewBox="0 0 2 2"><rect width="2" height="2" fill="red"/></svg>'
        >>> with Renderer(size=8, workers=0) as renderer:
        ...     [drawing] = renderer.render([RenderJob("a", red)])
        >>> drawing.image[0, 0].tolist()
        [255, 0, 0]

    Attributes:
        size: Side of the square pictures in pixels.
        workers: Number of worker processes.
        limits: Limits of one rendering.
        backend: Name of the drawing backend.
        forms: The forms of code that it draws.
    """

    def __init__(
        self,
        size: int = 448,
        workers: int = 1,
        limits: RenderLimits | None = None,
        backend: str = "cairosvg",
        sandbox: str = "auto",
        forms: Sequence[CodeForm] = ("svg",),
    ) -> None:
        """Note what is wanted; nothing starts yet.

        Args:
            size: Side of the pictures in pixels, 1 to 4096.
            workers: Worker processes; 0 draws in the calling process.
            limits: Limits of one rendering; the defaults when None.
            backend: A name in :data:`mmzero_env.rendering.backends.BACKENDS`.
            sandbox: ``"auto"`` uses what the machine has, ``"none"`` nothing, and with
                ``"required"`` nothing is drawn unless all of it is in force. Python has a
                sandbox of its own, which is always required.
            forms: What it is going to draw: ``"svg"``, ``"python"`` or both.

        Raises:
            UserError: A value is out of range, a name is unknown, or Python is wanted and
                cannot be drawn here; the message says what to install.
        """
        if not 1 <= size <= 4096:
            raise UserError(f"size must be 1 to 4096 pixels, got {size}.")
        if workers < 0:
            raise UserError(f"workers must be 0 or more, got {workers}.")
        if sandbox not in MODES:
            raise unknown("sandbox mode", sandbox, MODES)
        if workers == 0 and sandbox == "required":
            raise UserError('sandbox="required" needs worker processes: workers=1 or more.')
        for form in forms:
            if form not in CODE_FORMS:
                raise unknown("form of code", str(form), CODE_FORMS)
        self.size = size
        self.workers = workers
        self.forms = tuple(forms)
        self.limits = limits or RenderLimits()
        self.backend = backend
        self._target = backend_target(backend)
        self._crew = Crew(size, workers, self.limits, self._target, sandbox)
        self._figures = FigureSandbox(size, self.limits) if "python" in forms else None
        self._local: Backend | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def __enter__(self) -> Renderer:
        """Use as a context manager: the workers end with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    def __del__(self) -> None:
        """End the workers of a renderer that nobody closed."""
        # At the very end of the interpreter modules are gone before the last objects.
        if hasattr(self, "_owner") and os is not None:
            self.close()

    @property
    def sandbox(self) -> Sandbox:
        """What keeps the workers from files, network and processes; starts one to know.

        Raises:
            EngineError: Workers do not start.
            UserError: The sandbox is required and not complete.
        """
        if self.workers == 0:
            return Sandbox(reasons={"sandbox": "Codes are drawn in the calling process."})
        self._check_owner()
        with self._lock:
            return self._crew.sandbox()

    def close(self) -> None:
        """End the workers. Safe to repeat; a later ``render`` starts fresh ones."""
        self._check_owner()
        self._crew.close()

    def _check_owner(self) -> None:
        """In a forked copy of this process the workers still belong to the original."""
        if os.getpid() != self._owner:
            self._crew.abandon()
            # Another thread of the original may have held it at the fork.
            self._lock = threading.Lock()
            self._owner = os.getpid()

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw codes.

        Equal codes are drawn once; every drawing has an image array of its own.

        Args:
            jobs: Codes to draw.

        Returns:
            One drawing per job, in the same order.

        Raises:
            UserError: A job is of a form that this renderer was not made for.
            EngineError: Workers do not start, or are killed again and again from outside.
        """
        self._check_owner()
        for job in jobs:
            if job.form not in self.forms:
                raise UserError(
                    f"this renderer draws {', '.join(self.forms)}, but the code of job {job.id!r} "
                    f"is {job.form}; make it with Renderer(forms={CODE_FORMS})."
                )
        svg = list(dict.fromkeys(job.code for job in jobs if job.form == "svg"))
        python = list(dict.fromkeys(job.code for job in jobs if job.form == "python"))
        drawn: dict[tuple[CodeForm, str], Drawing] = {}
        with ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="figures") as threads:
            figures = [threads.submit(self._draw_figure, code) for code in python]
            try:
                with self._lock:
                    pictures = self._draw_svg(svg)
                drawn.update(zip((("svg", code) for code in svg), pictures, strict=True))
                for code, figure in zip(python, figures, strict=True):
                    drawn["python", code] = figure.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        drawings: list[Drawing] = []
        seen: set[tuple[CodeForm, str]] = set()
        for job in jobs:
            key = job.form, job.code
            drawing = drawn[key]
            if key in seen and drawing.image is not None:
                drawing = replace(drawing, image=drawing.image.copy())
            seen.add(key)
            drawings.append(drawing)
        return drawings

    def _draw_figure(self, code: str) -> Drawing:
        assert self._figures is not None  # jobs of other forms were refused
        return self._figures.draw(code)

    def _draw_svg(self, codes: list[str]) -> list[Drawing]:
        if self.workers == 0:
            return [self._draw_here(code) for code in codes]
        return self._crew.draw(codes)

    def _draw_here(self, code: str) -> Drawing:
        if self._local is None:
            try:
                self._local = load_backend(self._target)
            except OSError as error:
                raise EngineError(f"{error}. {mend('')}") from error
        try:
            return draw_code(code, self.size, self.limits, self._local)
        except MemoryError:
            detail = "the picture needs more memory than there is"
            return Drawing(None, Failure("render", "render_memory", detail))
