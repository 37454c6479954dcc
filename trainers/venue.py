"""Where a run draws and plays: on this machine, or on those of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mmzero_env.protocol import Role
from mmzero_env.rendering import JobRenderer, Renderer
from mmzero_env.world import SIDE
from trainers.executor import Executor, LocalExecutor
from trainers.run_config import RunConfig


@dataclass(frozen=True)
class Venue:
    """Who draws and plays for a run.

    Attributes:
        renderer: Draws the pictures of episodes.
        probe_renderer: Draws those of the probe.
        executor: Plays episodes.
    """

    renderer: JobRenderer
    probe_renderer: JobRenderer
    executor: Executor


@contextmanager
def open_venue(
    config: RunConfig, specs: Mapping[Role, str], note: Callable[[str], None]
) -> Generator[Venue]:
    """The venue that ``executor`` names; what was started for it ends with the block.

    Args:
        config: The run.
        specs: What workers elsewhere make the players from.
        note: Takes sentences for the person who watches.

    Raises:
        UserError: If the extra ``ray`` is not installed, there is no cluster at the address,
            it has no room, or what plays cannot be reached from elsewhere.
        EngineError: If a cluster does not start.
    """
    with ExitStack() as stack:
        if config.executor == "local":
            renderer, probe_renderer = (
                stack.enter_context(_renderer(config, size)) for size in (config.image_size, SIDE)
            )
            yield Venue(renderer, probe_renderer, LocalExecutor(renderer))
            return
        from trainers.ray_cluster import connected
        from trainers.ray_executor import RayExecutor
        from trainers.ray_fleet import Fleet
        from trainers.ray_renderer import RayRenderer
        from trainers.ray_worker import DrawingSettings

        stack.enter_context(connected(config.ray_address))
        drawing = DrawingSettings(config.render_workers, config.render_backend, config.code_forms)
        fleet = stack.enter_context(Fleet(drawing, note=note))
        note(f"{fleet.workers} Ray workers play and draw")
        yield Venue(
            RayRenderer(fleet, config.image_size),
            RayRenderer(fleet, SIDE),
            RayExecutor(fleet, specs, size=config.image_size),
        )


def _renderer(config: RunConfig, size: int) -> Renderer:
    return Renderer(
        size=size,
        workers=config.render_workers,
        backend=config.render_backend,
        forms=config.code_forms,
    )
