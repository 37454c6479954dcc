"""Names for policies: one string plugs a model in.

A spec reads ``kind:argument?key=value&key=value``. What stands behind a kind is
imported only when a policy of that kind is made, so looking names up costs
nothing and needs no torch.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from urllib.parse import parse_qsl

from agents.policy import Policy
from mmzero_env.errors import UserError, unknown

Factory = Callable[..., Policy]
"""Called as ``factory(argument, **options)`` with the text after the colon."""

ENTRY_POINT_GROUP = "mmzero.agents"
"""Installed packages add kinds under this entry point group."""

_BUILT_IN: dict[str, str] = {
    "nano": "agents.transformers:nano",
    "openai": "agents.openai:OpenAIPolicy",
    "scripted": "agents.scripted:scripted",
    "transformers": "agents.transformers:TransformersPolicy",
    "vllm": "agents.vllm:VllmPolicy",
    "vllm-engine": "agents.vllm_engine:VllmEngine",
}
_REGISTERED: dict[str, Factory] = {}


def make(spec: str, **options: Any) -> Policy:
    """Make a policy from its name.

    Args:
        spec: ``"scripted:oracle"``, ``"scripted:noisy?skill=0.8"``,
            ``"transformers:PATH-or-ID?device=cpu"``, ``"nano"``, or any kind that
            was registered. Values of the query are read as Python literals where
            they are one (``0.8``, ``True``) and as text otherwise.
        **options: The same options given in code; an option may not be given twice.

    Returns:
        The policy, its ``name`` being ``spec`` unless an option says otherwise.

    Raises:
        UserError: For an unknown kind or option, or an argument that the kind
            cannot use; the message lists what would have been accepted.
    """
    head, _, query = spec.partition("?")
    kind, _, argument = head.partition(":")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UserError(
            f"the options of {spec!r} cannot be read: expected key=value pairs joined by '&', "
            f"came {query!r}"
        ) from None
    for key, value in pairs:
        if key in options:
            raise UserError(f"option {key!r} of {spec!r} is given twice; keep one")
        options[key] = _literal(value)
    factory = _factory(kind)
    _check_options(factory, spec, argument, options)
    return factory(argument, **options)


def register(kind: str, factory: Factory) -> None:
    """Add a kind of policy.

    Args:
        kind: The text before the colon of a spec; registering it again replaces
            the factory, built-in kinds cannot be replaced.
        factory: Called as ``factory(argument, **options)``, returns a policy.

    Raises:
        UserError: If the kind is built in or contains ``:`` or ``?``.
    """
    if kind in _BUILT_IN:
        raise UserError(f"policy kind {kind!r} is built in; register under another name")
    if not kind or set(kind) & set(":?"):
        raise UserError(f"a policy kind is a word without ':' and '?', came {kind!r}")
    _REGISTERED[kind] = factory


def kinds() -> tuple[str, ...]:
    """Every kind that :func:`make` accepts, sorted."""
    return tuple(sorted({*_BUILT_IN, *_REGISTERED, *_plugins()}))


def missing_extra(error: ModuleNotFoundError, extra: str) -> UserError:
    """The error for an optional dependency that is not installed.

    Args:
        error: What the import raised.
        extra: The extra of the distribution that brings the module.

    Returns:
        An error that names the module and the command that adds it.
    """
    return UserError(
        f"module {error.name!r} is needed here and is not installed; "
        f"add it with: pip install 'mmzero-env[{extra}]'"
    )


def _factory(kind: str) -> Factory:
    if kind in _BUILT_IN:
        module, _, name = _BUILT_IN[kind].partition(":")
        return getattr(import_module(module), name)
    if kind in _REGISTERED:
        return _REGISTERED[kind]
    plugins = _plugins()
    if kind in plugins:
        return plugins[kind].load()
    raise unknown("policy", kind, kinds())


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _check_options(factory: Factory, spec: str, argument: str, options: dict[str, Any]) -> None:
    """Refuse options that the factory does not name before it runs."""
    signature = inspect.signature(factory)
    try:
        signature.bind(argument, **options)
    except TypeError as error:
        accepted = sorted(p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
        raise UserError(
            f"policy {spec!r}: {error}. Options: {', '.join(accepted) or 'none'}."
        ) from None
