"""The models of an evaluation: what was named, what it was trained from, where it answers."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import agents
from mmzero_env.errors import EngineError, UserError
from trainers import config

if TYPE_CHECKING:
    from trainers.endpoint_server import EndpointServer

_REMOTE = ("openai", "vllm")


@dataclass(frozen=True)
class Subject:
    """A model that is evaluated.

    Attributes:
        label: ``"model"`` or ``"base"``.
        spec: The agent behind it.
    """

    label: str
    spec: str

    @property
    def remote(self) -> bool:
        """Whether a server answers; else this process plays the model."""
        return self.spec.partition(":")[0] in _REMOTE


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers.

    Attributes:
        url: Base URL that ends in ``/v1``.
        model: Name to ask for.
        local: Whether it is on this machine.
        key_env: Environment variable with the key; "" if none is needed.
        ours: The server of this process, or None for one that was given.
    """

    url: str
    model: str
    local: bool
    key_env: str = ""
    ours: EndpointServer | None = None

    @property
    def key(self) -> str:
        """The key to send; ``"none"`` where there is none."""
        return os.environ.get(self.key_env, "") or "none"

    def served(self) -> tuple[str, ...]:
        """The names of the models that it serves; those of adapters come last.

        Raises:
            EngineError: If it does not answer.
        """
        opener = build_opener(*([ProxyHandler({})] if self.local else []))
        asked = Request(f"{self.url}/models", headers={"Authorization": f"Bearer {self.key}"})
        try:
            with opener.open(asked, timeout=20) as answer:
                entries = json.load(answer)["data"]
            # vLLM names the base of an adapter as its parent.
            entries.sort(key=lambda entry: bool(entry.get("parent")))
            return tuple(str(entry["id"]) for entry in entries)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint: {error}"
            ) from error


@dataclass(frozen=True)
class Asked:
    """What the command line asked for.

    Attributes:
        subjects: The model, and its base if it is compared with one.
        prompts: Prompt set that they understand.
    """

    subjects: tuple[Subject, ...]
    prompts: str


def read(model: str, base: str | None, *, no_base: bool, prompts: str | None) -> Asked:
    """What the named models are.

    Args:
        model: An agent, a model folder, or a run's folder ``checkpoints/iter-N``, whose
            Solver is meant.
        base: The model it was trained from; by default that of the run's settings.
        no_base: Evaluate the model alone.
        prompts: Prompt set; by default the run's, ``nano`` for the bundled model, else
            ``mm_zero``.

    Raises:
        UserError: If there is no such model, or no base and nobody said to do without.
    """
    if base is not None and no_base:
        raise UserError("--base and --no-base exclude each other.")
    path = Path(model)
    solver = path / "solver"
    found_base, found_prompts = base, None
    if solver.is_dir():
        spec = f"transformers:{solver}"
        settings = path.parents[1] / "config.json"
        if settings.is_file():
            run = config.read(path.parents[1])
            found_base, found_prompts = base or run.model, run.prompts
    else:
        spec = _spec(model)
    subjects = [Subject("model", spec)]
    if not no_base:
        if found_base is None:
            raise UserError(
                f"{model} is compared with the model that it was trained from, which is not known "
                "here. Name it: --base MODEL; or evaluate it alone: --no-base"
            )
        subjects.append(Subject("base", _spec(found_base)))
    nano = all(each.spec.partition("?")[0] == "nano" for each in subjects)
    return Asked(tuple(subjects), prompts or found_prompts or ("nano" if nano else "mm_zero"))


def _spec(model: str) -> str:
    return f"transformers:{model}" if Path(model).is_dir() else model


@contextmanager
def answering(subject: Subject) -> Generator[Endpoint]:
    """A model's endpoint: the given server, or one over the model in this process.

    Raises:
        UserError: If the model or the server cannot be used.
        EngineError: If a server does not answer.
    """
    if subject.remote:
        yield _given(subject.spec)
        return
    from trainers.endpoint_server import serving

    with serving(agents.make(subject.spec), subject.label) as server:
        yield Endpoint(server.url, subject.label, local=True, ours=server)


def _given(spec: str) -> Endpoint:
    """The endpoint of ``openai:MODEL@URL`` or ``vllm:BASE@URL``."""
    from agents.openai import model_and_url

    head, _, query = spec.partition("?")
    kind, _, argument = head.partition(":")
    options = dict(parse_qsl(query))
    key_env = options.pop("api_key_env", "OPENAI_API_KEY" if kind == "openai" else "")
    if options:
        raise UserError(
            f"{spec}: lmms-eval speaks to this server itself; of the options of an agent only "
            f"api_key_env holds for it, came {', '.join(options)}"
        )
    if set(argument.partition("@")[2]) & set(",|"):
        raise UserError(f"{spec}: expected one server, came several")
    model, url = model_and_url(argument)
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    endpoint = Endpoint(url, model, local, key_env)
    served = endpoint.served()
    if model in served:
        return endpoint
    if kind == "vllm" and served:
        # vllm:BASE names a base model by its folder or hub id, which a server may shorten.
        return replace(endpoint, model=served[0])
    raise UserError(f"{url} serves {', '.join(served) or 'no model'}, not {model!r}")
