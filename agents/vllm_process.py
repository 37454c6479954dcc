"""Starting and stopping vLLM servers on this machine.

    with VllmProcess("nano", log_dir=folder) as server:
        policy = agents.make(server.agent)

A server listens on the loopback address alone, since loading adapters at run time is an
administration surface: whoever reaches the port can make the server read a folder. It ends with
the process that started it, whatever ends that.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agents.policy import PolicyError
from agents.process_keeper import KeptProcess
from agents.vllm_installation import Installation
from agents.vllm_settings import NEUTRAL_SAMPLING, VllmSettings, find_model, flags, switches
from mmzero_env.errors import UserError

HOST = "127.0.0.1"
_POLL = 0.2  # Seconds between two questions whether the server answers.
_NOTE_EVERY = 10.0
_TAIL = 12  # Lines of the log that an error shows,
_CAUSE = 500  # and characters of what looks like its cause.
# An exception in a log, but for those that only say that another one came before.
_ERROR = re.compile(r"\b\w*(?:Error|Exception): (?!.*(?:See root cause|See stack trace)).+")

# What a log says when a server did not start, and what to do about it. First match wins.
_MENDS: tuple[tuple[str, str, type[Exception]], ...] = (
    (
        r"Address already in use|Errno (48|98)\b",
        "Another program listens on port {port}; choose another port, or none for a free one.",
        UserError,
    ),
    (
        r"larger than the available KV cache|No available memory for the cache",
        "The key-value cache is too small for one prompt: raise kv_cache_gb or gpu_memory, or "
        "lower max_model_len.",
        UserError,
    ),
    (
        r"out of memory|OutOfMemoryError|MemoryError|[Cc]an(not|'t) allocate memory"
        r"|less than (desired|requested) .*memory",
        "There is not enough memory: lower gpu_memory or kv_cache_gb if something else uses it, "
        "or lower max_model_len or max_loras, or take a smaller model.",
        PolicyError,
    ),
    (
        r"max_model_len \(\d+\) is greater than the derived",
        "max_model_len is longer than the model's own context; lower it, or set 0 for the latter.",
        UserError,
    ),
    (
        r"Repository ?Not ?Found|is not a valid model identifier|is not a local folder"
        r"|does not appear to have a file named|Can't load the configuration"
        r"|[Cc]ouldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled",
        "The model {model!r} could not be found; expected 'nano', a model folder, or the id of a "
        "model on the Hugging Face hub and a connection to it.",
        UserError,
    ),
)


class VllmProcess:
    """One vLLM server with its model and room for adapters.

    Args:
        model: ``"nano"``, a folder, or a hub id: the base of all adapters.
        log_dir: Folder for its log, made if it is not there.
        port: Where it listens; 0 finds a free one, which it then keeps.
        gpus: Indices of the GPUs it may use; empty leaves that to CUDA.
        python: Interpreter of the environment that has vLLM; None is this one.
        settings: Of its engine.
        whole: Whether it takes new weights of the whole model while it runs; it then has no
            adapters. See :meth:`agents.vllm.VllmPolicy.load_weights`.
        timeout: Seconds that it may take until it answers.
        note: Takes a sentence about the start every ten seconds.

    Attributes:
        name: Name under which the base model is served.
        url: Its address.
        agent: What :func:`agents.make` takes for it.
        log: Its log file, which a restart continues.

    Raises:
        UserError: If the model or vLLM is not there, or the port is taken.
    """

    def __init__(
        self,
        model: str,
        *,
        log_dir: Path,
        port: int = 0,
        gpus: Sequence[int] = (),
        python: str | None = None,
        settings: VllmSettings | None = None,
        whole: bool = False,
        timeout: float = 900.0,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """See the class."""
        settings = settings or VllmSettings()
        if whole:
            settings = replace(settings, max_loras=0)
        path, self.name = find_model(model)
        found = Installation.of(python, settings.device)
        if gpus and found.cpu:
            raise UserError(f"GPUs were named, but the vLLM of {found.python} runs on the CPU")
        if gpus and len(gpus) != settings.tensor_parallel:
            raise UserError(
                f"tensor_parallel={settings.tensor_parallel} needs as many GPUs a server, "
                f"came {len(gpus)}: {', '.join(map(str, gpus))}"
            )
        self._port, self._whole = _claim(port), whole
        self._timeout = timeout
        self._note = note or (lambda _: None)
        self._process: KeptProcess | None = None
        self._log_start = 0
        self._command = [
            *found.command,
            *flags({"model": path, "host": HOST}),
            *flags({"port": self._port, "disable_uvicorn_access_log": True}),
            # Tokens in, tokens out: the endpoint that agents.vllm asks.
            *flags({"enable_scale_out": True, "override_generation_config": NEUTRAL_SAMPLING}),
            *flags(settings.engine_options(cpu=found.cpu)),
        ]
        self._environment = _environment(settings, path, gpus, cpu=found.cpu)
        if whole:
            # The routes that load weights. Whoever reaches the port can call them: loopback.
            self._environment["VLLM_SERVER_DEV_MODE"] = "1"
        self.url = f"http://{HOST}:{self._port}"
        self.agent = f"vllm:{self.name}@{self.url}"
        log_dir.mkdir(parents=True, exist_ok=True)
        self.log = log_dir / f"vllm-{self._port}.log"

    @property
    def running(self) -> bool:
        """Whether its process is there; it may still be loading."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Id of its process and process group, if it runs."""
        return self._process.pid if self._process is not None and self.running else None

    def launch(self) -> None:
        """Start the process and return at once; :meth:`wait` waits until it answers."""
        if self.running:
            return
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        # A name of this start alone: nobody takes a restarted server, which has the weights it
        # was started with, for the one that was given others.
        names = [f"{self.name}~{uuid.uuid4().hex[:8]}", self.name] if self._whole else [self.name]
        command = [*self._command, *flags({"served_model_name": names})]
        self._process = KeptProcess(command, log=self.log, env=self._environment)

    def wait(self) -> None:
        """Wait until the launched server answers.

        Raises:
            UserError: If it ended because of the model or the port.
            PolicyError: If it ended otherwise, or did not answer in time. Both show the end
                of its log; nothing of the server is left running.
        """
        if self._process is None:
            raise PolicyError(f"the vLLM server at {self.url} was not launched")
        begun = noted = time.monotonic()
        while not self._answers():
            now = time.monotonic()
            if self._process.returncode is not None:
                raise self._failure(f"ended with exit code {self._process.returncode}")
            if now - begun > self._timeout:
                self.stop()
                raise self._failure(f"did not answer within {self._timeout:.0f} s")
            if now - noted >= _NOTE_EVERY:
                noted = now
                self._note(
                    f"vLLM server {self.name!r} at {self.url} is loading, {now - begun:.0f} s "
                    f"(log: {self.log})"
                )
            time.sleep(_POLL)

    def start(self) -> VllmProcess:
        """Launch it and wait until it answers; see :meth:`wait`."""
        self.launch()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End its process group and wait until it is gone. Safe to repeat."""
        if self._process is not None:
            self._process.stop()

    def restart(self) -> None:
        """Stop it if it still runs and start it again on the same port, without any adapter."""
        self.stop()
        self.start()

    def __enter__(self) -> VllmProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        # Without a proxy, which urllib would take from the environment even for loopback.
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200 and self.running
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _failure(self, what: str) -> Exception:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read().decode(errors="replace")
        lines = text.strip().splitlines()
        shown = "\n".join(f"    {line}" for line in lines[-_TAIL:])
        mend, kind = f"The whole log is {self.log}.", PolicyError
        for pattern, advice, error in _MENDS:
            if re.search(pattern, text):
                mend, kind = advice.format(port=self._port, model=self.name), error
                break
        causes = [found for line in lines if (found := _ERROR.search(line))]
        cause = f"\nCause: {causes[-1].group()[:_CAUSE]}" if causes else ""
        return kind(
            f"the vLLM server at {self.url} {what}. Its last lines:\n{shown}{cause}\n{mend}"
        )


def start_all(servers: Sequence[VllmProcess]) -> None:
    """Start servers at the same time; if one fails, all are stopped.

    Args:
        servers: With distinct ports.

    Raises:
        UserError: See :meth:`VllmProcess.wait`.
        PolicyError: See :meth:`VllmProcess.wait`.
    """
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait()
    except BaseException:
        stop_all(servers)
        raise


def stop_all(servers: Sequence[VllmProcess]) -> None:
    """Stop servers, the last one first."""
    for server in reversed(servers):
        server.stop()


def agent_of(servers: Sequence[VllmProcess], models: int = 1) -> str:
    """The one agent behind which several servers stand.

    Args:
        servers: All on one base, in the order of the models that they play.
        models: 1 if all play all roles, or one for each role.
    """
    each = len(servers) // models
    urls = [server.url for server in servers]
    groups = [",".join(urls[k * each : (k + 1) * each]) for k in range(models)]
    return f"vllm:{servers[0].name}@{'|'.join(groups)}"


def _environment(
    settings: VllmSettings, path: str, gpus: Sequence[int], *, cpu: bool
) -> dict[str, str]:
    environment = dict(os.environ) | switches(cpu=cpu)
    environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if Path(path).is_absolute():
        environment["HF_HUB_OFFLINE"] = "1"
    if cpu:
        # The model runs eagerly; small helpers would still be compiled, seconds each.
        environment["TORCHDYNAMO_DISABLE"] = "1"
        if settings.threads:
            environment["OMP_NUM_THREADS"] = str(settings.threads)
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    # A key in the environment would make the server ask for one.
    environment.pop("VLLM_API_KEY", None)
    return environment


def _claim(port: int) -> int:
    """A port that nobody listens on now."""
    if not 0 <= port <= 65535:
        raise UserError(f"a port is a number from 0 to 65535, came {port}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does, so that a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {HOST} cannot be used: {error.strerror}. Another program "
                "listens on it; choose another port, or 0 for a free one."
            ) from error
        return probe.getsockname()[1]
