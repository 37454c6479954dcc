"""The short way to read an answer, beside the careful one that has the word on all others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.http_faults import Unusable
from agents.vllm_answer import read_quickly
from agents.vllm_format import Prompt, read_generated

PROMPT = Prompt((1, 5, 9), picture=1, url="data:")
GOOD = {
    "request_id": "generate-tokens-r",
    "model": "nano",
    "created": 1,
    "choices": [
        {
            "index": k,
            "token_ids": [7, 8 + k],
            "finish_reason": "stop",
            "logprobs": {
                "content": [
                    {"token": "token_id:7", "logprob": -0.1, "bytes": None, "top_logprobs": []},
                    {"token": f"token_id:{8 + k}", "logprob": 0, "bytes": [1]},
                ]
            },
        }
        for k in range(2)
    ],
    "prompt_token_ids": [1, 5, 5, 9],
    "prompt_logprobs": None,
    "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
}


def quick(data: Any) -> Any:
    return read_quickly(json.dumps(data).encode(), "r", "nano", PROMPT, 2)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside an answer."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in inner:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


def changed(path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    data = copy.deepcopy(GOOD)
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return data


def test_an_answer_in_which_nothing_is_amiss_is_read_as_the_careful_way_reads_it():
    read = quick(GOOD)
    assert read.content == read_generated(GOOD, "r", "nano", PROMPT, 2)
    assert (read.prompt_tokens, read.completion_tokens) == (4, 4)
    for name in ("generate-tokens-r~retry2", "generate-tokens-r~retry"):
        assert quick(GOOD | {"request_id": name}) is not None


ODD = st.one_of(
    st.sampled_from([None, True, "", "stop", "abort", "nano", "token_id:7", [], {}, [7], 1e400]),
    st.sampled_from([float("nan"), float("inf"), -9999.0, 0.5, -0.0, 1.0, 2**70, -1, 0, 7]),
    st.integers(-3, 12),
    st.floats(),
)


@given(st.sampled_from(places(GOOD)), ODD)
def test_what_the_short_way_takes_the_careful_way_takes_alike(path, value):
    data = changed(path, lambda inner, key: inner.__setitem__(key, value))
    careful = read_generated(data, "r", "nano", PROMPT, 2)
    if (read := quick(data)) is not None:
        assert read.content == careful


@pytest.mark.parametrize("path", places(GOOD), ids=lambda path: "/".join(map(str, path)))
def test_nothing_that_is_missing_is_filled_in(path):
    data = changed(path, lambda inner, key: inner.pop(key))
    careful = read_generated(data, "r", "nano", PROMPT, 2)
    read = quick(data)
    assert read is None or read.content == careful
    if isinstance(careful, Unusable):
        assert read is None


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_json_that_is_cut_off_or_no_text_is_not_for_the_short_way(size):
    content = json.dumps(GOOD).encode()
    assert read_quickly(content[:size], "r", "nano", PROMPT, 2) is None
    assert read_quickly(b"\xff" + content, "r", "nano", PROMPT, 2) is None
