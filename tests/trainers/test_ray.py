"""A cluster of two nodes on this machine, with a worker each, some of which are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import agents
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES, TOPICS, Drawing, Proposal, RenderJob
from mmzero_env.rendering import Renderer

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'mmzero-env[ray]'")
pytestmark = pytest.mark.alone
from ray.cluster_utils import Cluster  # noqa: E402

from trainers import ray_fleet  # noqa: E402
from trainers.executor import LocalExecutor  # noqa: E402
from trainers.ray_cluster import connected  # noqa: E402
from trainers.ray_executor import BATCH, RayExecutor  # noqa: E402
from trainers.ray_fleet import Fleet  # noqa: E402
from trainers.ray_renderer import RayRenderer  # noqa: E402
from trainers.ray_worker import DrawingSettings  # noqa: E402
from trainers.rollout import Rollout, RolloutError  # noqa: E402
from trainers.rollout_stats import RolloutStats  # noqa: E402

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
SPEC = "scripted:noisy?skill=0.7"
SPECS = dict.fromkeys(ROLES, SPEC)
SIZE = 96
NANO = Path(agents.__file__).parent / "nano" / "model"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    started = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "num_gpus": 0}
    )
    started.add_node(**NODE, num_gpus=0)
    yield started
    started.shutdown()


@pytest.fixture
def joined(cluster: Any) -> Iterator[None]:
    with connected(cluster.address):
        yield


@pytest.fixture
def fleet(joined: None) -> Iterator[Fleet]:
    with Fleet(workers=2) as made:
        yield made


def played(count: int) -> list[Episode]:
    shape = EpisodeConfig(codes=2, answers=2, blind_answers=1)
    return [Episode(f"e{i}", TOPICS[i % len(TOPICS)], i, shape) for i in range(count)]


def jobs(count: int) -> list[RenderJob]:
    """Some that draw, some that do not."""
    good = '<svg viewBox="0 0 9 9"><rect width="{0}" height="4"/><text y="8">{0}</text></svg>'
    return [
        RenderJob(f"j{i}", "no svg" if i % 7 == 3 else good.format(i % 50)) for i in range(count)
    ]


def same_drawings(ours: list[Drawing], theirs: list[Drawing]) -> bool:
    return len(ours) == len(theirs) and all(
        (a.failure, a.flags) == (b.failure, b.flags) and same_picture(a.image, b.image)
        for a, b in zip(ours, theirs, strict=True)
    )


def same_picture(ours: Any, theirs: Any) -> bool:
    return (ours is None) == (theirs is None) and (ours is None or np.array_equal(ours, theirs))


def same_rollouts(ours: list[Rollout], theirs: list[Rollout]) -> bool:
    return [plain(rollout) for rollout in ours] == [plain(rollout) for rollout in theirs]


def plain(rollout: Rollout) -> Any:
    """Everything in a rollout, comparable."""
    outcome = rollout.outcome
    return (
        (outcome.id, outcome.topic, outcome.proposal_text, outcome.proposal),
        [
            (code.text, code.code, code.form, code.answers, drawn(code.drawing))
            for code in outcome.codes
        ],
        [
            (name, r.role, r.prompt, r.n, r.seed, r.sampling, r.proposal, pixels(r.image))
            for name, r in rollout.requests.items()
        ],
        list(rollout.responses.items()),
    )


def drawn(drawing: Drawing) -> Any:
    return drawing.failure, drawing.flags, pixels(drawing.image)


def pixels(image: Any) -> Any:
    return None if image is None else (image.shape, image.tobytes())


def pids(fleet: Fleet) -> list[int]:
    """Processes of the workers that are at work."""
    return [int(hand.where.split()[1]) for hand in fleet._working]


def warm(fleet: Fleet) -> list[int]:
    """Wait until all workers are there."""
    end = time.monotonic() + 60
    while len(pids(fleet)) < fleet.workers:
        assert time.monotonic() < end
        RayRenderer(fleet, SIZE).render(jobs(4))
        time.sleep(0.05)
    return pids(fleet)


def once(act: Callable[[], object]) -> Callable[[object], None]:
    """Does something the first time it is called."""
    left = [act]

    def call(_: object) -> None:
        if left:
            left.pop()()

    return call


def undisturbed(count: int) -> list[Rollout]:
    with Renderer(SIZE) as renderer:
        policies = dict.fromkeys(ROLES, agents.make(SPEC))
        return LocalExecutor(renderer).play(played(count), policies)


def test_episodes_and_drawings_are_those_of_one_process(fleet: Fleet) -> None:
    episodes, finished, stats = played(2 * BATCH + 1), [], list[RolloutStats]()
    with Renderer(SIZE) as renderer:
        assert same_drawings(RayRenderer(fleet, SIZE).render(jobs(40)), renderer.render(jobs(40)))
    found = RayExecutor(fleet, SPECS, size=SIZE).play(
        episodes, {}, on_finished=finished.append, on_stats=stats.append
    )
    assert same_rollouts(found, undisturbed(len(episodes)))
    assert all(episode.finished for episode in episodes)
    assert {rollout.outcome.id for rollout in finished} == {episode.id for episode in episodes}
    (figures,) = stats
    assert figures.requests == sum(len(rollout.requests) for rollout in found)
    assert figures.drawings == sum(len(rollout.outcome.codes) for rollout in found)
    span = figures.policies[0].occupancy.span
    assert 0 < span < 60 and figures.policies[0].requests == figures.requests
    assert found[0].outcome.codes[0].drawing.image.flags.writeable


def test_a_worker_killed_in_the_middle_changes_no_episode(fleet: Fleet) -> None:
    first, _ = warm(fleet)
    renderers = psutil.Process(first).children(recursive=True)
    assert renderers
    count = 8 * BATCH
    kill = once(lambda: os.kill(first, signal.SIGKILL))
    found = RayExecutor(fleet, SPECS, size=SIZE).play(played(count), {}, on_finished=kill)
    assert fleet.lost == 1
    assert same_rollouts(found, undisturbed(count))
    assert psutil.wait_procs(renderers, timeout=5)[1] == []


def test_a_worker_killed_in_the_middle_changes_no_drawing(fleet: Fleet) -> None:
    first, _ = warm(fleet)
    # It does not answer, so it holds codes when it is killed.
    os.kill(first, signal.SIGSTOP)
    timer = threading.Timer(0.3, os.kill, (first, signal.SIGKILL))
    timer.start()
    found = RayRenderer(fleet, SIZE).render(jobs(80))
    timer.join()
    assert fleet.lost == 1
    with Renderer(SIZE) as renderer:
        assert same_drawings(found, renderer.render(jobs(80)))


def test_a_machine_that_is_gone_changes_no_drawing(cluster: Any, joined: None) -> None:
    node = cluster.add_node(**NODE, num_gpus=0)
    with Fleet(workers=3) as fleet:
        warm(fleet)
        timer = threading.Timer(0.1, cluster.remove_node, (node, False))
        renderer = RayRenderer(fleet, SIZE)
        timer.start()
        with Renderer(SIZE) as local:
            expected = local.render(jobs(80))
        while not fleet.lost:
            assert same_drawings(renderer.render(jobs(80)), expected)
        timer.join()
        assert same_drawings(renderer.render(jobs(80)), expected)
        assert len(pids(fleet)) == 2


def test_nothing_is_filled_in_when_all_workers_are_gone(fleet: Fleet) -> None:
    def kill_all() -> None:
        fleet._patience = 0.0
        for pid in pids(fleet):
            os.kill(pid, signal.SIGKILL)

    warm(fleet)
    episodes = played(8 * BATCH)
    finished: list[Rollout] = []

    def on_finished(rollout: Rollout) -> None:
        if not finished:
            kill_all()
        finished.append(rollout)

    why = "no Ray worker has run for.*its worker process has died"
    with pytest.raises(RolloutError, match=why) as raised:
        RayExecutor(fleet, SPECS, size=SIZE).play(episodes, {}, on_finished=on_finished)
    assert raised.value.finished == len(finished) < raised.value.episodes == len(episodes)
    done = {rollout.outcome.id for rollout in finished}
    assert all(episode.finished == (episode.id in done) for episode in episodes)
    expected = {rollout.outcome.id: rollout for rollout in undisturbed(len(episodes))}
    assert same_rollouts(finished, [expected[rollout.outcome.id] for rollout in finished])


def test_work_that_kills_its_workers_again_and_again_is_an_error(
    joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_fleet, "TRIES", 2)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            for hand in list(fleet._working):
                if hand.open:
                    try:
                        os.kill(int(hand.where.split()[1]), signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    with Fleet(workers=1) as fleet:
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(EngineError, match="lost 2 times at the same piece of work"):
            for _ in range(100):
                RayRenderer(fleet, 2048).render(jobs(8))
        over.set()
        killer.join()


def test_workers_with_other_versions_get_nothing_to_do(
    joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = DrawingSettings().versions()
    monkeypatch.setattr(DrawingSettings, "versions", lambda self: {**here, "cairo": "9.9"})
    with Fleet(workers=1) as fleet:
        with pytest.raises(EngineError, match=r"it has cairo \S+ \(here 9\.9\).*pip install"):
            RayRenderer(fleet, SIZE).render(jobs(1))


def test_workers_play_with_the_adapters_that_were_published_last(joined: None, tmp_path) -> None:
    from transformers import AutoTokenizer

    from agents.vllm import VllmPolicy
    from tests.agents.fake_server import FakeServer
    from tests.agents.vllm_requests import sampled

    server = FakeServer(AutoTokenizer.from_pretrained(NANO), base="nano", root=str(NANO))
    argument = f"nano@{server.url}"
    policy = VllmPolicy(argument)
    proposal = Proposal("map", "a map", "what?", "1", "why?", "2")
    try:
        with Fleet(workers=1) as fleet:
            executor = RayExecutor(fleet, dict.fromkeys(ROLES, f"vllm:{argument}?backoff=0.01"))
            for version in ("coder-1", "coder-2"):
                policy.load_adapter("coder", version, str(tmp_path / version))
                episodes = [Episode(f"{version}/{i}", "map", i, None, proposal) for i in range(3)]
                if version == "coder-2":
                    server.adapters.clear()  # as after a restart
                executor.play(episodes, dict.fromkeys(ROLES, policy))
            used = {body["request_id"]: body["model"] for body in sampled(server)}
            assert used == {f"{v}/{i}/coder": v for v in ("coder-1", "coder-2") for i in range(3)}
            assert "coder-2" in server.adapters
            assert not server.complaints
    finally:
        policy.close()
        server.stop()


def test_a_run_on_ray_writes_what_a_run_here_writes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.trainers.copied_engine import CopiedEngine
    from tests.trainers.test_evolve import TINY, rows
    from trainers import config, evolve
    from trainers.progress import SilentProgress

    asked: dict[str, list[str]] = {}

    def evolved(executor: str) -> list[Any]:
        engine = CopiedEngine()
        asked[executor] = engine.asked
        monkeypatch.setitem(agents.registry._REGISTERED, "copied", lambda argument: engine)
        small = {
            "executor": executor,
            "policy": "copied",
            "lora_rank": "4",
            "probe.items": "5",
            "proposer.steps": "0",
            "coder.steps": "1",
            "coder.pool": "4",
            "coder.prompts_per_step": "1",
            "coder.group_size": "4",
            "coder.answers": "2",
            "solver.steps": "1",
            "solver.pool": "4",
            "solver.answers": "2",
            "solver.prompts_per_step": "1",
            "solver.group_size": "2",
        }
        made = config.load("nano-cpu", {**TINY, **small, "out": str(tmp_path / executor)})
        evolve.run(made, resume=False, progress=SilentProgress())
        metrics = [
            {name: v for name, v in row.items() if not name.startswith("seconds_")}
            for row in rows(tmp_path / executor)
        ]
        files = sorted((tmp_path / executor / "episodes").iterdir())
        assert files
        probe = tmp_path / executor / "probe.json"
        return [metrics, [path.read_bytes() for path in files], probe.read_text()]

    here = evolved("local")
    hook = "tests.trainers.copied_engine.register"
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    # Connected already, the run uses this connection.
    ray.init(
        cluster.address,
        runtime_env={"worker_process_setup_hook": hook, "env_vars": path},
        log_to_driver=False,
    )
    try:
        assert evolved("ray") == here
    finally:
        ray.shutdown()
    # The episodes were not played in this process.
    assert any("/label/" in name for name in asked["local"])
    assert not any("/label/" in name for name in asked["ray"])


def test_an_engine_that_is_gone_stops_the_rollout(joined: None) -> None:
    spec = "openai:m@http://127.0.0.1:9/v1?retries=0&patience=0.1"
    with Fleet(workers=1) as fleet:
        executor = RayExecutor(fleet, {**SPECS, "coder": spec}, size=SIZE)
        with pytest.raises(RolloutError, match="e0/coder.*0 of 1 episodes") as raised:
            executor.play(played(1), {})
        assert raised.value.finished == 0
        with pytest.raises(UserError, match="no policy plays the solver"):
            RayExecutor(fleet, {"proposer": SPEC, "coder": SPEC}).play(played(1), {})


@pytest.mark.parametrize("spec", ["nano", "local", "transformers:x?device=cpu", "vllm-engine:x"])
def test_policies_with_weights_in_the_trainer_are_refused(spec: str, fleet: Any = None) -> None:
    with pytest.raises(UserError, match=r"holds its weights in this process.*executor=local"):
        RayExecutor(fleet, {"coder": spec})  # type: ignore[arg-type]


def test_a_cluster_that_was_joined_goes_on_and_sigterm_stays_ours(cluster: Any) -> None:
    def ours(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    try:
        for _ in range(2):
            with connected(cluster.address), connected("elsewhere:1"):
                assert ray.is_initialized()
                assert signal.getsignal(signal.SIGTERM) is ours
            assert not ray.is_initialized()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_of_ones_own_has_a_worker_a_cpu_and_ends_with_the_block() -> None:
    def rays() -> set[int]:
        below = psutil.Process().children(recursive=True)
        return {p.pid for p in below if p.name() in ("raylet", "gcs_server")}

    before = rays()
    with connected(cpus=3):
        (raylet,) = [node for node in ray.nodes() if node["Alive"]]
        assert raylet["Resources"]["CPU"] == 3
        assert len(rays() - before) == 2
        with Fleet() as fleet:
            assert fleet.workers == 3
        with pytest.raises(UserError, match="no machine of the Ray cluster has 4 CPUs"):
            Fleet(DrawingSettings(workers=4))
    assert not ray.is_initialized()
    psutil.wait_procs([psutil.Process(pid) for pid in rays() - before], timeout=5)
    assert rays() == before


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere"])
def test_no_cluster_at_the_address_is_a_mistake_of_a_person(address: str) -> None:
    with (
        pytest.raises(UserError, match="no Ray cluster could be joined.*ray start --head"),
        connected(address),
    ):
        pass
