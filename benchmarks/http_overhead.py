"""What a policy behind HTTP costs its own process a request, beside the HTTP library alone.

    python -m benchmarks.http_overhead [--json FILE]

A server in another process answers every request after a fixed delay, so that 500 are open
all the time. Measured is the CPU time of the client's process, all its threads, a request, in
several rounds of which the least counts: other work on the machine only ever adds to it. The
library alone posts bodies of the same size and reads the same answers, but does not look into
them. The vLLM client tokenises each prompt and checks each sampled token; what tokenising
takes by itself is given, too. Objects from before the rounds are kept out of the garbage
collector's sight (``gc.freeze``), since walking through them is no cost of the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import aiohttp
from rich.console import Console
from rich.table import Table

import agents
from agents.openai import OpenAIPolicy
from agents.policy import StreamingPolicy
from agents.vllm import VllmPolicy
from agents.vllm_format import GENERATE, Prompt, generate_body
from agents.vllm_server import PROBE
from agents.vocabulary import Vocabulary
from benchmarks.facts import machine_facts, print_facts
from benchmarks.instant_server import Manner, serving
from mmzero_env.protocol import Request, Sampling

AIM_MS = 0.3
"""CPU milliseconds a request beyond the library alone."""
OPEN, REQUESTS, ROUNDS = 500, 2500, 4
PICTURES = 4
"""Requests with the same prompt: an episode asks a question about four drawings."""
_NANO = Path(agents.__file__).parent / "nano" / "model"
_TEXT = "A red circle stands left of five blue bars; how many bars are taller than three units? "
_WORDS = "The answer is \\boxed{3}, since three of the five bars reach above the line. "
_SAMPLING = Sampling(max_tokens=512)


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds a request, the least of all rounds.

    Attributes:
        client: The name of the client.
        policy: Of the policy, in all.
        library: Of the library alone.
        tokenising: Of turning the prompt into ids, by itself; 0 for a client that does not.
    """

    client: str
    policy: float
    library: float
    tokenising: float = 0.0

    @property
    def beyond(self) -> float:
        """What the policy adds to the library."""
        return self.policy - self.library


def request(place: int, same: int) -> Request:
    """One request of many; so many in a row share a prompt."""
    prompt = f"{place // same}. {_TEXT * 10}"
    return Request(f"ep/{place}/solver/0", "solver", prompt, sampling=_SAMPLING, seed=place)


def policy_cost(policy: StreamingPolicy, same: int) -> float:
    """CPU milliseconds a request of a policy that is asked for the next when one is done."""
    costs = []
    for turn in range(ROUNDS + 1):
        todo = [request(turn * REQUESTS + k, same) for k in range(REQUESTS)]
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
        costs.append(time.process_time() - started)
    # The first round connects.
    return 1000 * min(costs[1:]) / REQUESTS


def library_cost(url: str, body: bytes) -> float:
    """CPU milliseconds a request of the library alone."""

    async def work(session: aiohttp.ClientSession, todo: list[int]) -> None:
        while todo:
            headers = {"X-Request-Id": f"ep/{todo.pop()}", "Content-Type": "application/json"}
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    async def run() -> float:
        costs = []
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(ROUNDS + 1):
                todo = list(range(REQUESTS))
                gc.collect()
                gc.freeze()
                started = time.process_time()
                await asyncio.gather(*(work(session, todo) for _ in range(OPEN)))
                costs.append(time.process_time() - started)
        return 1000 * min(costs[1:]) / REQUESTS

    return asyncio.run(run())


def tokenising_cost(vocabulary: Vocabulary, same: int) -> float:
    """CPU milliseconds that the ids of a request's prompt take."""
    costs = []
    for turn in range(ROUNDS):
        prompts = [request(turn * 500 + k, 1).prompt for k in range(500)]
        started = time.process_time()
        for prompt in prompts:
            vocabulary.encoder.unexpanded(prompt, with_image=False)
        costs.append(time.process_time() - started)
    return 1000 * min(costs) / 500 / same


def measure(tokens: int = 100, delay: float = 0.3) -> list[Cost]:
    """Measure both clients.

    Args:
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
        openai = OpenAIPolicy(f"nano@{url}", max_open=OPEN)
        cost = policy_cost(openai, PICTURES)
        openai.close()
        alone = library_cost(f"{url}/v1/chat/completions", json.dumps(chat).encode())
        costs.append(Cost("openai", cost, alone))
        vllm = VllmPolicy(f"nano@{url}", max_open=OPEN)
        alone = library_cost(url + GENERATE, generate)
        for name, same in (("vllm", PICTURES), ("vllm, no prompt twice", 1)):
            cost = policy_cost(vllm, same)
            costs.append(Cost(name, cost, alone, tokenising_cost(vocabulary, same)))
        vllm.close()
    return costs


def show(console: Console, costs: Sequence[Cost]) -> None:
    """Print the figures beside the aim."""
    table = Table(title=f"CPU ms a request at {OPEN} open requests")
    table.add_column("client")
    for name in ("policy", "aiohttp alone", "beyond it", "of that, tokenising", "aim", "met"):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(
            cost.client,
            f"{cost.policy:.2f}",
            f"{cost.library:.2f}",
            f"{cost.beyond:.2f}",
            f"{cost.tokenising:.2f}",
            f"≤ {AIM_MS}",
            "yes" if cost.beyond <= AIM_MS else "no",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write.

    Args:
        arguments: Of the command line; those of the process when None.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    args = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=110)
    costs = measure()
    show(console, costs)
    facts = machine_facts(("aiohttp", "tokenizers", "transformers"))
    print_facts(console, facts)
    if args.json is not None:
        rows = [dataclasses.asdict(cost) | {"beyond": cost.beyond} for cost in costs]
        figures = {"aim": AIM_MS, "open": OPEN, "costs": rows, "machine": facts}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
