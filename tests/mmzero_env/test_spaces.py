from __future__ import annotations

import copy
import pickle

import pytest
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

from mmzero_env.spaces import Utterance


def test_utterance_holds_any_script_and_samples_short_text():
    space = Utterance(100, seed=4)
    assert all(space.contains(text) for text in ("", "π ≈ 3.14", "图表\n\x00", "x" * 100))
    assert not any(space.contains(value) for value in ("x" * 101, 3, None, b"bytes"))
    samples = [space.sample() for _ in range(200)]
    assert all(space.contains(text) and len(text) <= 64 for text in samples)
    assert len(set(samples)) > 150 and max(map(len, samples)) > 50
    again = Utterance(100, seed=4)
    assert [again.sample() for _ in range(200)] == samples
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space and copy.sample() == space.sample()
    assert space != Utterance(99) and space != "Utterance(100)"
    assert Utterance(5, seed=1).sample_length == 5


TEXTS = ("", "plain", "π ≈ 3.14 图表", "\ud800\x00\U0001f600", "\U0001f600" * 100)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_shared_memory(text):
    space = Utterance(100)
    memory = create_shared_memory(space, n=3)
    texts = read_from_shared_memory(space, memory, n=3)
    assert tuple(texts) == ("", "", "")
    write_to_shared_memory(space, 1, text, memory)
    assert tuple(texts) == ("", text, "")
    kept = copy.deepcopy(texts)
    write_to_shared_memory(space, 1, "later", memory)
    assert kept == ("", text, "") and texts[1] == texts[-2] == "later"


def test_reused_memory_starts_empty():
    space = Utterance(100)
    for _ in range(5):
        memory = create_shared_memory(space, n=2)
        texts = read_from_shared_memory(space, memory, n=2)
        assert tuple(texts) == ("", "")
        write_to_shared_memory(space, 0, "x" * 100, memory)
        write_to_shared_memory(space, 1, "y" * 100, memory)
        del texts, memory


def test_long_texts_cost_memory_only_when_written():
    """Room for hundreds of megabytes is handed out at once; the pages come when used."""
    space = Utterance(8_000_000)
    memory = create_shared_memory(space, n=8)
    write_to_shared_memory(space, 7, "last", memory)
    assert tuple(read_from_shared_memory(space, memory, n=8)) == ("",) * 7 + ("last",)
