"""The schema of a recorded episode, and the check that data follows it.

Records are plain data (dict, list, str, int, float, bool, bytes, None). The classes
here are the single source of the schema: the check of what is read and the columns of
a Parquet file are both derived from their annotations.
"""

from __future__ import annotations

import copy
import functools
import math
import types
from collections.abc import Callable, Iterable, KeysView, Mapping
from typing import Any, TypedDict, cast, get_args, get_origin, get_type_hints, is_typeddict

from mmzero_env.errors import UserError

SCHEMA = 4
"""Version of the schema; it rises whenever a field comes, goes or changes its meaning."""

ADDED: Mapping[int, Mapping[str, Any]] = {3: {"blind_answers": {}}}
"""Older schemas that are read, and what their records lack, with the value that says so."""

Scalar = bool | int | float | str | None
"""The value of a setting that is recorded by name."""


class ConfigRecord(TypedDict):
    """The shape of the episode, see :class:`mmzero_env.episode.EpisodeConfig`.

    Attributes:
        codes: Codes asked of the Coder.
        answers: Answers asked to each question about each picture.
        questions: The questions asked, in order.
        prompts: Name of the prompt set.
        code_forms: What the Coder may write.
    """

    codes: int
    answers: int
    questions: list[str]
    prompts: str
    code_forms: list[str]


class DesignRecord(TypedDict):
    """What scored the episode.

    Attributes:
        name: Name of the reward design.
        overrides: Constants and weights that differ from the registered design, as
            :func:`mmzero_env.rewards.get_design` takes them; None if the design cannot
            be made from the registry.
    """

    name: str
    overrides: dict[str, Scalar] | None


class RenderRecord(TypedDict):
    """What drew the pictures.

    Attributes:
        size: Side of the pictures, in pixels.
        backend: Name of the drawing backend, as
            :func:`mmzero_env.rendering.backends.resolve_backend` gives it.
        limits: Limits that differ from the defaults of
            :class:`mmzero_env.rendering.RenderLimits`, by name.
    """

    size: int
    backend: str
    limits: dict[str, Scalar]


class ProposalRecord(TypedDict):
    """A parsed proposal, see :class:`mmzero_env.protocol.Proposal`."""

    content_type: str
    caption: str
    easy_question: str
    easy_answer: str
    hard_question: str
    hard_answer: str


class FailureRecord(TypedDict):
    """Why something could not be used, see :class:`mmzero_env.protocol.Failure`."""

    stage: str
    reason: str
    detail: str


class VoteRecord(TypedDict):
    """A vote over answers, see :class:`mmzero_env.protocol.Vote`."""

    winner: str
    consistency: float
    valid: int
    total: int


class RewardRecord(TypedDict):
    """A turn's reward: the scalar and the contribution of each named term."""

    value: float
    terms: dict[str, float]


class CodeRecord(TypedDict):
    """One code of an episode.

    Attributes:
        text: The Coder's raw completion.
        code: The extracted code, or None.
        form: What it is written in; None exactly when ``code`` is.
        png: The picture as PNG bytes (lossless, RGB), or None.
        failure: Set exactly when ``png`` is None.
        flags: What rendering dropped or normalised.
        answers: The Solver's raw completions by question.
        reward: Reward of the code.
        votes: The vote by question.
        solver_rewards: By question, one reward an answer.
        solvability: Share of easy answers equal to the proposed one.
        difficulty: min(c, 1 - c) of the hard vote.
    """

    text: str
    code: str | None
    form: str | None
    png: bytes | None
    failure: FailureRecord | None
    flags: list[str]
    answers: dict[str, list[str]]
    reward: RewardRecord
    votes: dict[str, VoteRecord]
    solver_rewards: dict[str, list[RewardRecord]]
    solvability: float
    difficulty: float


class EpisodeRecord(TypedDict):
    """One finished episode.

    Attributes:
        schema: :data:`SCHEMA` at the time of writing.
        id: Episode id.
        seed: The episode's seed, or None if it is not known.
        batch: Name shared by the episodes that were scored together; None for an
            episode that was scored alone or in a rolling window.
        population: Number of episodes that were scored together. With a batch: its
            episodes. Without: this one and the ``population - 1`` records before it.
        memory: Captions of earlier steps that the design compared with, one list a
            step, oldest first. Only in the first record of a batch.
        config: Shape of the episode.
        design: What scored it, or None if it is not known.
        render: What drew it, or None if it is not known.
        versions: Versions of the software that changes numbers or pixels, by name.
        topic: The Proposer's topic.
        proposal_text: The Proposer's raw completion, "" if the proposal was given.
        proposal: The parsed proposal, or None.
        failure: Why there is no proposal; set exactly when ``proposal`` is None.
        caption_answers: The Solver's raw completions by question where it answered from
            the caption text; empty if it was not asked to.
        blind_answers: The same for the hard question without picture and caption.
        reward: The Proposer's reward.
        codes: One entry a code, in sampling order.
    """

    schema: int
    id: str
    seed: int | None
    batch: str | None
    population: int
    memory: list[list[str]]
    config: ConfigRecord
    design: DesignRecord | None
    render: RenderRecord | None
    versions: dict[str, str]
    topic: str
    proposal_text: str
    proposal: ProposalRecord | None
    failure: FailureRecord | None
    caption_answers: dict[str, list[str]]
    blind_answers: dict[str, list[str]]
    reward: RewardRecord
    codes: list[CodeRecord]


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bytes: "PNG bytes",
}


def current(value: Any) -> Any:
    """A record as this schema writes it, if it was written under an older one that is read.

    Args:
        value: Anything; :func:`check` says what is wrong with it.

    Returns:
        A new record with the fields that came later, or the value itself.
    """
    version = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(version, int) or version not in ADDED:
        return value
    whole = {**value, **copy.deepcopy(dict(ADDED[version])), "schema": SCHEMA}
    # In the order of the schema, so that JSON made of it is as if it was written today.
    order = list(fields_of(EpisodeRecord))
    return {name: whole[name] for name in sorted(whole, key=_place(order))}


def _place(order: list[str]) -> Callable[[str], int]:
    return lambda name: order.index(name) if name in order else len(order)


def check(value: object, where: str) -> None:
    """Check that a value is an episode record of this schema.

    Args:
        value: Anything.
        where: Begins the error message: a file and a line, say.

    Raises:
        UserError: Naming the field, what was expected and what came.
    """
    version = value.get("schema") if isinstance(value, dict) else None
    if version != SCHEMA:
        known = " or ".join(map(str, [*ADDED, SCHEMA]))
        raise UserError(
            f"{where}: expected an episode record of schema {known}, got schema {version!r}."
        )
    if not _test(EpisodeRecord)(value):
        # The slow way, which knows the name of every field.
        _check(value, EpisodeRecord, where, "")


@functools.cache
def fields_of(shape: type) -> Mapping[str, Any]:
    """The fields of one of the classes here with their annotations, in order."""
    return types.MappingProxyType(get_type_hints(shape))


def without_none(hint: Any) -> tuple[Any, bool]:
    """An annotation without its None, and whether it had one. ``Scalar`` stays whole."""
    if hint == Scalar or get_origin(hint) is not types.UnionType:
        return hint, False
    (inner,) = (each for each in get_args(hint) if each is not types.NoneType)
    return inner, True


@functools.cache
def _test(hint: Any) -> Callable[[Any], bool]:
    """A quick look whether a value follows an annotation, built once.

    What passes is right. What does not may be right as well (a whole number for a number, say), and
    :func:`_check` decides.
    """
    inner, optional = without_none(hint)
    if optional:
        test = _test(inner)
        return lambda value: value is None or test(value)
    if is_typeddict(inner):
        fields = {key: _test(each) for key, each in fields_of(inner).items()}
        return functools.partial(_fits, fields.keys(), tuple(fields.items()))
    kind = get_origin(inner)
    if kind not in (dict, list):
        one = _all_of(inner)
        return lambda value: one((value,))
    each = get_args(inner)[-1]
    many = _all_of(each) if each in _LEAVES else lambda values: all(map(_test(each), values))
    if kind is list:
        return lambda value: isinstance(value, list) and many(value)
    return lambda value: (
        isinstance(value, dict) and _STR.issuperset(map(type, value)) and many(value.values())
    )


_STR = frozenset((str,))
_LEAVES: Mapping[Any, frozenset[type]] = {
    str: _STR,
    int: frozenset((int,)),
    float: frozenset((float,)),
    bool: frozenset((bool,)),
    bytes: frozenset((bytes,)),
    Scalar: frozenset((bool, int, float, str, types.NoneType)),
}


def _all_of(leaf: Any) -> Callable[[Iterable[Any]], bool]:
    kinds = _LEAVES[leaf]
    if leaf is float:
        return lambda values: (
            kinds.issuperset(map(type, values)) and all(map(math.isfinite, values))
        )
    return lambda values: kinds.issuperset(map(type, values))


def _fits(names: KeysView[str], tests: Iterable[tuple[str, Any]], value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != names:
        return False
    for key, test in tests:
        if not test(value[key]):
            return False
    return True


def _check(value: object, hint: Any, where: str, name: str) -> None:
    inner, optional = without_none(hint)
    if value is None and optional:
        return
    if inner == Scalar:
        if not isinstance(value, Scalar):
            raise _wrong(where, name, "a text, number, true, false or null", value)
    elif is_typeddict(inner):
        if not isinstance(value, dict):
            raise _wrong(where, name, "an object", value)
        shape = fields_of(inner)
        if missing := [key for key in shape if key not in value]:
            raise UserError(f"{where}: {name or 'the record'} lacks {', '.join(missing)}.")
        if extra := [str(key) for key in value if key not in shape]:
            raise UserError(
                f"{where}: {name or 'the record'} has {', '.join(extra)}, which schema "
                f"{SCHEMA} does not know."
            )
        for key, each in shape.items():
            _check(value[key], each, where, f"{name}.{key}" if name else key)
    elif get_origin(inner) is dict:
        if not isinstance(value, dict):
            raise _wrong(where, name, "an object", value)
        for key, each in value.items():
            if not isinstance(key, str):
                raise _wrong(where, name, "an object with text keys", value)
            _check(each, get_args(inner)[1], where, f"{name}.{key}")
    elif get_origin(inner) is list:
        if not isinstance(value, list):
            raise _wrong(where, name, "a list", value)
        for index, each in enumerate(value):
            _check(each, get_args(inner)[0], where, f"{name}[{index}]")
    elif not isinstance(value, (int, float) if inner is float else inner) or (
        isinstance(value, bool) and inner is not bool
    ):
        raise _wrong(where, name, _KINDS[inner], value)
    elif inner is float and not _finite(cast("float", value)):
        raise _wrong(where, name, "a finite number", value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # A whole number beyond all floats.
        return False


def _wrong(where: str, name: str, expected: str, value: object) -> UserError:
    return UserError(f"{where}: {name or 'the record'} must be {expected}, got {value!r:.80}.")
