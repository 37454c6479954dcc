"""Checks of what a person passes in: a wrong value says at once what was expected."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mmzero_env.episode import MAX_TEXT
from mmzero_env.errors import UserError, unknown
from mmzero_env.prompts import PromptSet
from mmzero_env.protocol import CODE_FORMS, QUESTIONS, CodeForm, Proposal, Question
from mmzero_env.rewards import RewardDesign, get_design

P = ParamSpec("P")
R = TypeVar("R")


def argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names that a function or a method takes as keywords, without ``self``."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.kind in kinds and each.name != "self")


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse unknown keywords with the list of those it knows.

    Python's own message names the culprit only.

    Raises:
        UserError: At the call, for a keyword that the function does not have.
    """
    names = argument_names(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise unknown("argument", name, names)
        return function(*args, **kwargs)

    return checked


def checked_count(name: str, value: object, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def checked_topic(topic: object) -> str:
    """A topic as it came; longer ones than a completion are refused."""
    if not isinstance(topic, str) or len(topic) > MAX_TEXT:
        raise UserError(
            f"a topic must be a str of at most {MAX_TEXT:,} characters, got {topic!r:.200}."
        )
    return topic


def checked_proposal(proposal: object) -> Proposal:
    """A proposal as it came, if all its fields are strings of at most a completion."""
    if not isinstance(proposal, Proposal):
        raise UserError(f"the reset option 'proposal' must be a Proposal, got {proposal!r:.200}.")
    for field in fields(proposal):
        value = getattr(proposal, field.name)
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise UserError(
                f"{field.name} of a proposal must be a str of at most {MAX_TEXT:,} characters, "
                f"got {value!r:.200}."
            )
    return proposal


def checked_design(design: object) -> RewardDesign:
    """A reward design, looked up if it came by its name."""
    if isinstance(design, str):
        return get_design(design)
    if not isinstance(design, RewardDesign):
        raise UserError(
            "reward_design must be the name of a reward design or a RewardDesign, got "
            f"{design!r:.200}."
        )
    return design


def checked_topics(topics: object) -> tuple[str, ...]:
    """One or more topics."""
    if isinstance(topics, str) or not isinstance(topics, Sequence) or not topics:
        raise UserError(f"topics must be a non-empty sequence of str, got {topics!r:.200}.")
    return tuple(checked_topic(each) for each in topics)


def checked_forms(forms: object) -> tuple[CodeForm, ...]:
    """What the Coder may write; :class:`mmzero_env.episode.EpisodeConfig` checks the names."""
    if isinstance(forms, str) or not isinstance(forms, Sequence):
        raise UserError(
            f"code_forms must be a sequence of {', '.join(CODE_FORMS)}, got {forms!r:.200}."
        )
    return tuple(forms)


def checked_questions(questions: object, design: RewardDesign) -> tuple[Question, ...]:
    """The questions to ask; :class:`mmzero_env.episode.EpisodeConfig` checks the names.

    Args:
        questions: What came.
        design: What they are scored with; some cannot do without the easy question.
    """
    if isinstance(questions, str) or not isinstance(questions, Sequence):
        raise UserError(
            f"questions must be a sequence of {', '.join(QUESTIONS)}, got {questions!r:.200}."
        )
    if design.needs_caption_answers and "easy" not in questions:
        raise UserError(
            "a reward design with labels from the caption needs the easy question, which decides "
            f"whether a picture is used; got {questions!r:.200}."
        )
    return tuple(questions)


def longest_prompt(prompts: PromptSet) -> int:
    """Characters of the longest prompt that a set can give.

    Tags may be nested, so every field of a proposal may be nearly as long as the text
    that it was read from.
    """
    templates = (
        prompts.proposer_template,
        prompts.coder_template,
        prompts.solver_template,
        prompts.caption_template,
        prompts.python_template,
        prompts.either_template,
    )
    return max(len(template) + template.count("{") * MAX_TEXT for template in templates)
