"""What to change when a server refuses a request: one sentence for each reason."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from agents.http_faults import Refused, context_overflow


def mend(
    refused: Refused,
    *,
    model: str,
    served: Sequence[str] | None,
    max_tokens: int,
    api_key_env: str,
    key_set: bool,
    omittable: Sequence[str] = (),
) -> str:
    """The mend for what a server refused.

    Args:
        refused: What it said.
        model: Name of the model that was asked for.
        served: Names that the server lists; None if it lists none.
        max_tokens: Longest completion that was asked for.
        api_key_env: Name of the variable that the key is read from, or "".
        key_set: Whether it held one.
        omittable: Fields that the option ``omit`` takes.
    """
    error = refused.error
    if refused.status in (401, 403):
        return _key(api_key_env, key_set)
    if refused.status in (402, 429):
        return "The account has no credit left; add some, or use another server."
    if refused.status == 404 or "model" in (error.param, error.code.removesuffix("_not_found")):
        return _model(model, served)
    if (overflow := context_overflow(error.message)) is not None:
        context, tokens = overflow
        prompt = f", the prompt has {tokens} tokens" if tokens else ""
        return (
            f"The context holds {context} tokens{prompt} and max_tokens is {max_tokens}: lower "
            "max_tokens, or serve a model with a longer context (vLLM: --max-model-len)."
        )
    if "max_completion_tokens" in error.message:
        return "Set the option max_tokens_field='max_completion_tokens'."
    for name in omittable:
        if error.param == name or f"'{name}'" in error.message:
            return (
                f"If the server does not take {name}, leave it out with the option omit={name!r}."
            )
    if error.param:
        return f"It is about the field {error.param!r}."
    return ""


def _key(api_key_env: str, key_set: bool) -> str:
    if not api_key_env:
        return "Name the environment variable that holds the key with the option api_key_env."
    state = "the key in it was refused" if key_set else "it is not set"
    return (
        f"The key is read from the environment variable {api_key_env}, and {state}. Put a valid "
        "key there, or name another variable with the option api_key_env."
    )


def _model(model: str, served: Sequence[str] | None) -> str:
    if served is None:
        return (
            f"See that the model is called {model!r} there and that the URL is the base of an "
            "OpenAI-compatible API (…/v1)."
        )
    if model in served:
        return f"The server lists {model!r}; see that the URL is the base of its API (…/v1)."
    near = difflib.get_close_matches(model, served, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    more = f" and {len(served) - 10} more" if len(served) > 10 else ""
    return f"The server has no model {model!r}.{hint} It lists: {', '.join(served[:10])}{more}."
