from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.decoding import Row, decode
from agents.policy import PolicyError
from agents.sampling import Sampler, Stream, truncate
from mmzero_env.protocol import Sampling

CPU = torch.device("cpu")
LOGITS = torch.tensor([1.0, -0.5, 0.3, 2.0, -torch.inf, 0.0])


def draw_many(sampling: Sampling, count: int, banned: tuple[int, ...] = ()):
    streams = [Stream(3, i) for i in range(count)]
    sampler = Sampler(streams, [sampling] * count, banned, CPU)
    return sampler.draw(LOGITS.repeat(count, 1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_and_logprobs_follow_the_distribution(temperature):
    tokens, logprobs = draw_many(Sampling(temperature=temperature), 6_000, banned=(1,))
    allowed = LOGITS.clone()
    allowed[1] = -torch.inf
    expected = (allowed / temperature).softmax(0)
    counts = torch.bincount(tokens, minlength=6) / len(tokens)
    # Three standard errors of the least certain share.
    assert (counts - expected).abs().max() < 3 * 0.5 / np.sqrt(len(tokens))
    assert counts[1] == 0 and counts[4] == 0
    assert torch.allclose(logprobs, expected.log()[tokens], atol=1e-6)


def test_truncation_renormalises_and_keeps_the_best():
    tokens, logprobs = draw_many(Sampling(top_k=2), 2_000)
    assert set(tokens.tolist()) == {0, 3}
    kept = LOGITS[[0, 3]].log_softmax(0)
    assert torch.allclose(logprobs[tokens == 3], kept[1])
    only_best, logprobs = draw_many(Sampling(top_p=1e-6), 50)
    assert set(only_best.tolist()) == {3}
    assert torch.allclose(logprobs, torch.zeros(50))


def test_nucleus_is_the_smallest_set_that_reaches_the_mass():
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]])

    def kept(top_p: float, top_k: int = 0) -> list[int]:
        cut = truncate(probabilities.log(), torch.tensor([[top_p]]), torch.tensor([[top_k]]))
        return torch.isfinite(cut)[0].nonzero()[:, 0].tolist()

    assert kept(0.39) == [1]
    assert kept(0.45) == [1, 3]
    assert kept(0.75) == [1, 2, 3]
    assert kept(1.0) == [0, 1, 2, 3]
    assert kept(1.0, top_k=3) == [1, 2, 3]
    # Among the two best the first has 4/7 of the mass.
    assert kept(0.5, top_k=2) == [1]


def test_settings_are_per_row():
    samplings = [Sampling(temperature=0), Sampling(top_k=1), Sampling(temperature=0.01)]
    sampler = Sampler([Stream(0, i) for i in range(3)], samplings, (3,), CPU)
    tokens, logprobs = sampler.draw(LOGITS.repeat(3, 1))
    assert tokens.tolist() == [0, 0, 0]
    allowed = LOGITS.clone()
    allowed[3] = -torch.inf
    assert logprobs[0] == pytest.approx(allowed.log_softmax(0)[0].item(), abs=1e-6)
    assert logprobs[1:].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_row_keeps_its_stream_when_others_leave():
    def run(rows: list[int], leave: dict[int, list[int]]) -> dict[int, list[int]]:
        sampler = Sampler([Stream(5, r) for r in rows], [Sampling()] * len(rows), (), CPU)
        out: dict[int, list[int]] = {r: [] for r in rows}
        for step in range(70):
            if step in leave:
                rows = [rows[k] for k in leave[step]]
                sampler.keep(torch.tensor(leave[step]))
            flat = torch.zeros((len(rows), 1000))
            for r, token in zip(rows, sampler.draw(flat)[0].tolist(), strict=True):
                out[r].append(token)
        return out

    crowd = run([0, 1, 2, 3], {7: [1, 2, 3], 40: [0, 2]})
    assert crowd[1] == run([1], {})[1]
    assert crowd[3] == run([3], {})[3]
    assert crowd[1] != crowd[3]
    assert len(set(crowd[1])) > 50


def test_streams_are_fixed_for_all_time_and_any_seed():
    assert (
        Stream(1, 0).generator().random()
        == np.random.Generator(np.random.Philox(key=np.array([1, 0], dtype=np.uint64))).random()
    )
    heads = {Stream(s, i).generator().random() for s in (-1, 0, 1, 2**70 + 5) for i in range(3)}
    assert len(heads) == 12


def test_extreme_uniforms_never_pick_an_impossible_token():
    class Edge:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self, size: int, dtype: type) -> np.ndarray:
            return np.full(size, self.value, dtype=dtype)

    logits = torch.full((2, 5), -torch.inf)
    logits[:, 1], logits[:, 3] = 0.0, 1.0
    sampler = Sampler([Stream(0, 0)] * 2, [Sampling()] * 2, (), CPU)
    sampler._generators = [Edge(0.0), Edge(1 - 2**-24)]
    assert sampler.draw(logits)[0].tolist() == [1, 3]


class CountingEngine:
    """Certain next tokens: row r says 10 + r until its turn to stop, then 0."""

    device = CPU

    def __init__(self, stop_after: list[int]) -> None:
        self.left = torch.tensor(stop_after)
        self.said = 10 + torch.arange(len(stop_after))
        self.sizes: list[int] = []

    def _logits(self) -> torch.Tensor:
        self.sizes.append(len(self.left))
        token = torch.where(self.left > 0, self.said, 0)
        return torch.full((len(token), 40), -30.0).scatter_(1, token[:, None], 30.0)

    def prefill(self, prompts, owner):
        self.left = self.left[owner]
        return self._logits()

    def keep(self, rows):
        self.left, self.said = self.left[rows], self.said[rows]

    def step(self, tokens):
        self.left = self.left - 1
        return self._logits()


def rows(count: int, **sampling) -> list[Row]:
    return [Row(i, Stream(0, i), Sampling(**sampling)) for i in range(count)]


def test_finished_rows_leave_and_results_stay_in_order():
    stop_after = [5, 0, 1, 9, 2, 0, 7, 1]
    engine = CountingEngine(stop_after)
    results = decode(engine, [], rows(8, max_tokens=8), stop_ids=[0])
    for i, (n, result) in enumerate(zip(stop_after, results, strict=True)):
        said = (10 + i,) * min(n, 8)
        assert result.token_ids == (said + (0,) if n < 8 else said)
        assert result.finish_reason == ("stop" if n < 8 else "length")
        assert len(result.logprobs) == len(result.token_ids)
    assert engine.sizes[0] == 8
    assert engine.sizes[-1] <= 2
    assert len(engine.sizes) == 8


def test_logits_that_are_not_finite_stop_at_once():
    engine = CountingEngine([3, 3])
    engine._logits = lambda: torch.full((2, 40), torch.nan)
    with pytest.raises(PolicyError, match="not finite"):
        decode(engine, [], rows(2, max_tokens=1000), stop_ids=[0])
