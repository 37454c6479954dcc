"""One vLLM engine in this process, on a thread of its own.

Neither vLLM's engine nor its input processing is safe to enter from two threads, and some of
what vLLM sets up holds for the thread that does it. So one thread does all of it: it takes jobs
from an inbox and lets the engine do one step after the other while anything is open.
"""

from __future__ import annotations

import itertools
import os
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image as PILImage

from agents.policy import PolicyError
from agents.registry import missing_extra
from agents.vllm_settings import NEUTRAL_SAMPLING, VllmSettings, switches
from mmzero_env.protocol import Image

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ask:
    """What an engine is asked.

    Attributes:
        label: Names the request in messages.
        token_ids: The prompt; one placeholder stands for the picture.
        image: The picture, or None.
        params: Of vLLM's ``SamplingParams``.
        adapter: Name of a loaded adapter, or "" for the base model.
    """

    label: str
    token_ids: Sequence[int]
    image: Image | None
    params: Mapping[str, Any]
    adapter: str = ""


class VllmCore:
    """The engine with its adapters. Safe to use from any thread.

    Args:
        name: Of the thread, and in messages.
        path: Folder or hub id of the base model.
        settings: Of the engine.
        cpu: Whether it runs on a CPU.

    Raises:
        UserError: If vLLM is not installed.
        PolicyError: If the engine does not start.
    """

    def __init__(self, name: str, path: str, settings: VllmSettings, *, cpu: bool) -> None:
        """See the class."""
        self._name = name
        self._lock = threading.Lock()
        self._over = ""
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._open: dict[str, _Open] = {}
        self._loras: dict[str, Any] = {}
        self._retired: set[str] = set()
        self._users: Counter[str] = Counter()
        self._engine: Any = None
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(path, settings, cpu, started), name=name, daemon=True
        )
        self._thread.start()
        started.result()

    def submit(self, ask: Ask, read: Callable[[Any], T]) -> Future[T]:
        """Ask the engine.

        Args:
            ask: What.
            read: Makes the result of vLLM's finished ``RequestOutput``.

        Returns:
            A future of that result; cancelling it gives the request up.

        Raises:
            PolicyError: After :meth:`close`, or when the engine has failed.
        """
        future: Future[T] = Future()
        key = f"{next(self._numbers)}/{ask.label}"

        def given_up(done: Future[T]) -> None:
            if done.cancelled():
                self._inbox.put(_Job(lambda: self._abort(key), done))

        future.add_done_callback(given_up)
        self._post(_Job(lambda: self._add(key, ask, _Open(ask, read, future)), future))
        return future

    def load(self, name: str, path: str) -> None:
        """Load an adapter.

        Args:
            name: What it is asked by.
            path: Its folder.

        Raises:
            PolicyError: If the engine does not take it.
        """
        done: Future[None] = Future()
        self._post(_Job(lambda: self._load(name, path, done), done))
        done.result()

    def retire(self, name: str) -> None:
        """Let go of an adapter as soon as no request uses it that was submitted before this."""
        done: Future[None] = Future()
        self._post(_Job(lambda: self._retire(name), done))

    def close(self) -> None:
        """Give up what is open and free the engine's memory. Safe to repeat."""
        with self._lock:
            self._over = self._over or f"{self._name} is closed; make the policy again to use it"
        self._inbox.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _post(self, job: _Job) -> None:
        with self._lock:
            if self._over:
                raise PolicyError(self._over)
            self._inbox.put(job)

    # From here on everything runs in the engine's thread.

    def _run(self, path: str, settings: VllmSettings, cpu: bool, started: Future[None]) -> None:
        try:
            self._engine = _make(path, settings, cpu=cpu)
        except Exception as error:
            self._over = f"{self._name} did not start"
            if isinstance(error, ModuleNotFoundError):
                started.set_exception(missing_extra(error, "vllm"))
            else:
                started.set_exception(
                    PolicyError(
                        f"{self._name} did not start: {type(error).__name__}: {error}. If memory "
                        "ran out, lower gpu_memory, max_model_len or kv_cache_gb."
                    )
                )
            return
        started.set_result(None)
        try:
            while self._work():
                pass
            self._end(f"{self._name} was closed before it was answered")
        except Exception as error:
            self._end(f"{self._name} failed while sampling: {type(error).__name__}: {error}")
        finally:
            engine, self._engine = self._engine, None
            _unmake(engine)

    def _work(self) -> bool:
        """Take what has come in and let the engine do one step; False is the end."""
        while True:
            try:
                job = self._inbox.get(block=not self._open)
            except queue.Empty:
                break
            if job is None:
                return False
            job.run()
        for output in self._engine.step():
            if output.finished:
                self._finish(output)
        return True

    def _add(self, key: str, ask: Ask, entry: _Open) -> None:
        from vllm import SamplingParams, TokensPrompt  # ty: ignore[import-not-found]
        from vllm.sampling_params import RequestOutputKind  # ty: ignore[import-not-found]

        if entry.future.cancelled():
            return
        params = SamplingParams(**ask.params, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = TokensPrompt(prompt_token_ids=list(ask.token_ids))
        if ask.image is not None:
            prompt["multi_modal_data"] = {"image": [PILImage.fromarray(ask.image)]}
        lora = self._loras[ask.adapter] if ask.adapter else None
        try:
            (rendered,) = self._engine.renderer.render_cmpl([prompt])
            self._engine.add_request(key, rendered, params, lora_request=lora)
        except Exception as error:
            raise PolicyError(
                f"request {ask.label!r}: {self._name} refused it: {error} If the prompt is too "
                "long, raise max_model_len or ask for less."
            ) from error
        self._users[ask.adapter] += 1
        self._open[key] = entry

    def _finish(self, output: Any) -> None:
        entry = self._open[output.request_id]
        self._forget(output.request_id)
        try:
            result = entry.read(output)
        except Exception as error:
            _fail(entry.future, error)
        else:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_result(result)

    def _load(self, name: str, path: str, done: Future[None]) -> None:
        from vllm.lora.request import LoRARequest  # ty: ignore[import-not-found]

        lora = LoRARequest(lora_name=name, lora_int_id=next(self._numbers), lora_path=path)
        try:
            self._engine.add_lora(lora)
        except Exception as error:
            raise PolicyError(
                f"{self._name} does not take adapter {name!r} at {path}: {error}. Expected a LoRA "
                "adapter of language layers, without biases, DoRA or modules_to_save, of rank at "
                "most max_lora_rank."
            ) from error
        self._loras[name] = lora
        done.set_result(None)

    def _retire(self, name: str) -> None:
        self._retired.add(name)
        self._release()

    def _abort(self, key: str) -> None:
        if key in self._open:
            self._engine.abort_request([key])
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._users[self._open.pop(key).ask.adapter] -= 1
        self._release()

    def _release(self) -> None:
        for name in [name for name in self._retired if not self._users[name]]:
            self._retired.discard(name)
            self._engine.remove_lora(self._loras.pop(name).lora_int_id)

    def _end(self, reason: str) -> None:
        with self._lock:
            self._over = self._over or reason
        while not self._inbox.empty():
            job = self._inbox.get()
            if job is not None:
                _fail(job.future, PolicyError(reason))
        for entry in self._open.values():
            _fail(entry.future, PolicyError(f"request {entry.ask.label!r}: {reason}"))
        self._open.clear()


@dataclass(frozen=True, eq=False)
class _Job:
    """Something for the engine's thread to do, and the future that waits for it."""

    work: Callable[[], None]
    future: Future[Any]

    def run(self) -> None:
        """Do it; what goes wrong is the future's."""
        try:
            self.work()
        except Exception as error:
            _fail(self.future, error)


@dataclass(frozen=True, eq=False)
class _Open:
    """A request that the engine works on."""

    ask: Ask
    read: Callable[[Any], Any]
    future: Future[Any]


def _fail(future: Future[Any], error: Exception) -> None:
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)


def _make(path: str, settings: VllmSettings, *, cpu: bool) -> Any:
    """The engine, its core in this process."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_LOGGING_STREAM": "ext://sys.stderr"}
    in_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    for name, value in (switches(cpu=cpu) | quiet | in_process).items():
        os.environ.setdefault(name, value)
    with _undisturbed():
        from vllm.engine.arg_utils import EngineArgs  # ty: ignore[import-not-found]
        from vllm.v1.engine.llm_engine import LLMEngine  # ty: ignore[import-not-found]

        arguments = EngineArgs(
            model=path,
            disable_log_stats=True,
            override_generation_config=dict(NEUTRAL_SAMPLING),
            **settings.engine_options(cpu=cpu),
        )
        return LLMEngine.from_engine_args(arguments)


def _unmake(engine: Any) -> None:
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory  # ty: ignore[import-not-found]

    engine.engine_core.shutdown()
    engine.renderer.shutdown()
    cleanup_dist_env_and_memory()


@contextmanager
def _undisturbed() -> Generator[None]:
    """Keep what vLLM changes for the whole process.

    It seeds the generators of random, numpy and torch, and on a CPU it replaces
    ``torch.set_num_threads`` by a function that refuses.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    set_num_threads = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
