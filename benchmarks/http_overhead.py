"""What a policy behind HTTP costs its own process a request, beside the HTTP library alone.

    python -m benchmarks.http_overhead [--rounds 4] [--requests 2500]

A server in another process answers every request after a fixed delay, so that 500 are open
all the time. Measured is the CPU time of the client's process, all its threads, a request, in
several rounds, in turn with the library's. What is held against the aim is the least of all
rounds: other work on the machine only ever adds to it. The library alone posts bodies of the
same size and reads the same answers, but does not look into them. The vLLM client tokenises
each prompt and checks each sampled token; what tokenising takes by itself is given, too.
Objects from before the rounds are kept out of the garbage collector's sight (``gc.freeze``),
since walking through them is no cost of the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import aiohttp

import agents
from agents.openai import OpenAIPolicy
from agents.policy import StreamingPolicy
from agents.vllm import VllmPolicy
from agents.vllm_format import GENERATE, Prompt, generate_body
from agents.vllm_server import PROBE
from agents.vocabulary import Vocabulary
from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.instant_server import Manner, serving
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request, Sampling

AIM_MS = 0.3
"""CPU milliseconds a request beyond the library alone."""
OPEN = 500
PICTURES = 4
"""Requests with the same prompt: an episode asks a question about four drawings."""
_NANO = Path(agents.__file__).parent / "nano" / "model"
_TEXT = "A red circle stands left of five blue bars; how many bars are taller than three units? "
_WORDS = "The answer is \\boxed{3}, since three of the five bars reach above the line. "
_SAMPLING = Sampling(max_tokens=512)


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds a request, one number a round.

    Attributes:
        client: The name of the client.
        policy: Of the policy, in all.
        library: Of the library alone.
        tokenising: Of turning the prompt into ids, by itself; 0 for a client that does not.
    """

    client: str
    policy: tuple[float, ...]
    library: tuple[float, ...]
    tokenising: float = 0.0

    @property
    def beyond(self) -> float:
        """What the policy adds to the library, the least of either."""
        return min(self.policy) - min(self.library)


def request(place: int, same: int) -> Request:
    """One request of many; so many in a row share a prompt."""
    prompt = f"{place // same}. {_TEXT * 10}"
    return Request(f"ep/{place}/solver/0", "solver", prompt, sampling=_SAMPLING, seed=place)


def policy_round(policy: StreamingPolicy, same: int, turn: int, count: int) -> float:
    """CPU milliseconds a request of a policy that is asked for the next when one is done."""
    todo = [request(turn * count + k, same) for k in range(count)]
    done: SimpleQueue = SimpleQueue()
    gc.collect()
    gc.freeze()
    started = time.process_time()
    for each in todo[:OPEN]:
        policy.submit(each).add_done_callback(done.put)
    for each in [*todo[OPEN:], *[None] * OPEN]:
        done.get().result()
        if each is not None:
            policy.submit(each).add_done_callback(done.put)
    return 1000 * (time.process_time() - started) / count


class Library:
    """The library alone, with connections that stay open from round to round.

    Args:
        url: Where to.
        body: What is posted.
    """

    def __init__(self, url: str, body: bytes) -> None:
        """See the class."""
        self._url, self._body = url, body
        self._loop = asyncio.new_event_loop()
        self._session = self._loop.run_until_complete(self._connect())

    def round(self, count: int) -> float:
        """CPU milliseconds a request."""
        gc.collect()
        gc.freeze()
        started = time.process_time()
        self._loop.run_until_complete(self._all(list(range(count))))
        return 1000 * (time.process_time() - started) / count

    def close(self) -> None:
        """Close the connections."""
        self._loop.run_until_complete(self._session.close())
        self._loop.close()

    async def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def _all(self, todo: list[int]) -> None:
        await asyncio.gather(*(self._some(todo) for _ in range(OPEN)))

    async def _some(self, todo: list[int]) -> None:
        while todo:
            headers = {"X-Request-Id": f"ep/{todo.pop()}", "Content-Type": "application/json"}
            async with self._session.post(self._url, data=self._body, headers=headers) as response:
                await response.read()


def in_turn(
    policy: StreamingPolicy, same: int, url: str, body: bytes, rounds: int, count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A policy and the library, round by round; the first round connects and does not count."""
    library = Library(url, body)
    turns = []
    try:
        for turn in range(rounds + 1):
            turns.append((policy_round(policy, same, turn, count), library.round(count)))
    finally:
        library.close()
    ours, alone = zip(*turns[1:], strict=True)
    return ours, alone


def tokenising_cost(vocabulary: Vocabulary, same: int) -> float:
    """CPU milliseconds that the ids of a request's prompt take."""
    costs = []
    for turn in range(4):
        prompts = [request(turn * 500 + k, 1).prompt for k in range(500)]
        started = time.process_time()
        for prompt in prompts:
            vocabulary.encoder.unexpanded(prompt, with_image=False)
        costs.append(time.process_time() - started)
    return 1000 * min(costs) / 500 / same


def compare(rounds: int, count: int, tokens: int = 100, delay: float = 0.3) -> list[Cost]:
    """Measure both clients.

    Args:
        rounds: Rounds that count.
        count: Requests of a round.
        tokens: Of a completion of the vLLM client.
        delay: Seconds an answer takes.
    """
    vocabulary = Vocabulary.load(str(_NANO))
    probe = vocabulary.encoder.unexpanded(PROBE, with_image=False)
    ids = tuple(range(100, 100 + tokens))
    manner = Manner("nano", str(_NANO), probe, _WORDS * 5, ids, delay)
    example = request(0, 1)
    chat = {"model": "nano", "messages": [{"role": "user", "content": example.prompt}]}
    generate = generate_body(
        example.id,
        "nano",
        Prompt(vocabulary.encoder.unexpanded(example.prompt, with_image=False)),
        _SAMPLING,
        n=1,
        seed=0,
        stop_ids=vocabulary.stop_ids,
        banned_ids=vocabulary.banned_ids,
    )
    costs = []
    with serving(manner) as url:
        target = f"{url}/v1/chat/completions"
        openai = OpenAIPolicy(f"nano@{url}", max_open=OPEN)
        body = json.dumps(chat).encode()
        costs.append(Cost("openai", *in_turn(openai, PICTURES, target, body, rounds, count)))
        openai.close()
        for name, same in (("vllm", PICTURES), ("vllm, no prompt twice", 1)):
            # Prompts of earlier rounds would be known to the same client.
            vllm = VllmPolicy(f"nano@{url}", max_open=OPEN)
            pair = in_turn(vllm, same, url + GENERATE, generate, rounds, count)
            costs.append(Cost(name, *pair, tokenising_cost(vocabulary, same)))
            vllm.close()
    return costs


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2500, help=f"of a round, at least {OPEN}")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Costs of both clients beside the aim.

    Raises:
        UserError: If there are fewer requests than are kept open.
    """
    if args.requests < OPEN or args.rounds < 1:
        raise UserError(f"expected at least {OPEN} --requests and one of --rounds")
    costs = compare(args.rounds, args.requests)
    return Findings(
        {
            "aim_ms": AIM_MS,
            "open": OPEN,
            "costs": [{**dataclasses.asdict(cost), "beyond": cost.beyond} for cost in costs],
        },
        (
            Table(
                f"CPU ms a request at {OPEN} open requests",
                ("client", "policy", "aiohttp alone", "beyond it", "tokenising", "aim", "met"),
                tuple(
                    (
                        cost.client,
                        Spread.of(cost.policy).text(),
                        Spread.of(cost.library).text(),
                        f"{cost.beyond:.2f}",
                        f"{cost.tokenising:.2f}",
                        f"≤ {AIM_MS}",
                        "yes" if cost.beyond <= AIM_MS else "no",
                    )
                    for cost in costs
                ),
                "Median (smallest to largest) over the rounds; beyond it: smallest less smallest.",
            ),
        ),
        tuple(
            Ratio.of(f"{cost.client} client / aiohttp alone, CPU", cost.policy, cost.library)
            for cost in costs
        ),
        seeds=(0,),
        packages=("aiohttp", "tokenizers"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write.

    Args:
        argv: Of the command line; those of the process when None.
    """
    return script.run("http_overhead", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
