"""A real vLLM server that decodes for as long as a law says, behind scripted players.

A small model that stands in for a large one writes short completions of one length, so that
nobody waits for a straggler. Here the server's work is real and only its amount is set: every
sample is a request of its own that reads the real prompt and decodes exactly as many tokens as
were drawn for it. What it writes is thrown away; episodes go on with scripted texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agents.http_faults import Unusable
from agents.http_policy import together
from agents.vllm import VllmPolicy
from agents.vllm_format import Prompt, Sampled, generate_body, read_generated
from agents.vllm_server import VllmServer
from agents.vocabulary import Vocabulary
from benchmarks.simulated_engine import LENGTHS, MAX_TOKENS, Script
from mmzero_env.errors import UserError
from mmzero_env.protocol import Completion, Request, Response, Sampling


class TimedEngine(VllmPolicy):
    """A :class:`agents.StreamingPolicy`: texts are scripted, lengths drawn, the engine is real.

    Lengths follow :data:`benchmarks.simulated_engine.LENGTHS`, divided by ``scale``. A
    request of ``n`` samples is sent as ``n`` requests, since samples of one request share
    their limit; it counts as one of ``max_open``. The tokens of a completion are those that
    the server sampled, so that they can be counted, and say nothing about its text.

    Attributes:
        scale: What lengths are divided by.
    """

    HELP = "scripted texts, lengths drawn as for the simulated engines"

    def __init__(self, argument: str, scale: float, *, seed: int = 0, **options: Any) -> None:
        """See the class.

        Args:
            argument: ``BASE@URL[,URL…]``, see :class:`agents.vllm.VllmPolicy`.
            scale: What lengths are divided by.
            seed: Of the lengths.
            options: Of :class:`agents.vllm.VllmPolicy`.

        Raises:
            UserError: If the argument, the scale or an option cannot be.
        """
        if not scale > 0:
            raise UserError(f"lengths are divided by a number above 0, came {scale}")
        self.scale = scale
        self._script = Script(seed)
        options.setdefault("name", f"vllm:{argument} ({self.HELP} / {scale:g})")
        super().__init__(argument, **options)

    def expected(self, request: Request) -> tuple[tuple[str, int, str], ...]:
        """Text, length in tokens and finish reason of each sample of a request."""
        return tuple(
            (each.text, max(1, round(len(each.token_ids) / self.scale)), each.finish_reason)
            for each in self._script.response(request).completions
        )

    def facts(self) -> dict[str, Any]:
        """What was made up and by which rule, for records."""
        return {
            "texts": "scripted",
            "lengths": "drawn, cut at the longest, divided",
            "divided_by": self.scale,
            "longest": MAX_TOKENS,
            "law": {role: asdict(law) for role, law in LENGTHS.items()},
        }

    async def _sample(self, request: Request, adapter: str | None) -> Response:
        server = self._server(request)
        await server.ready()
        vocabulary, prompt = await self._prompt(request)
        expected = self.expected(request)
        came = await together(
            [
                self._decode(server, adapter, request, index, prompt, vocabulary, length)
                for index, (_, length, _) in enumerate(expected)
            ]
        )
        return Response(
            request.id,
            tuple(
                Completion(text, sampled.token_ids, (), reason)
                for (text, _, reason), (_, sampled) in zip(expected, came, strict=True)
            ),
            came[0][0],
        )

    async def _decode(
        self,
        server: VllmServer,
        adapter: str | None,
        request: Request,
        index: int,
        prompt: Prompt,
        vocabulary: Vocabulary,
        length: int,
    ) -> tuple[tuple[int, ...], Sampled]:
        name = f"{request.id}/{index}"

        def body(model: str) -> bytes:
            return endless(
                generate_body(
                    name,
                    model,
                    prompt,
                    Sampling(max_tokens=length),
                    n=1,
                    seed=request.seed + index,
                    stop_ids=(),
                    banned_ids=vocabulary.banned_ids,
                )
            )

        def read(data: Mapping[str, Any], model: str) -> tuple[tuple[int, ...], Sampled] | Unusable:
            came = read_generated(data, name, model, prompt, 1)
            if isinstance(came, Unusable):
                return came
            prompt_ids, (sampled,) = came
            if len(sampled.token_ids) != length:
                return Unusable(f"expected {length} tokens, came {len(sampled.token_ids)}")
            return prompt_ids, sampled

        return await server.ask(adapter, name, body, read, max_tokens=length)


def endless(body: bytes) -> bytes:
    """A request that only ``max_tokens`` ends, whatever is sampled."""
    data = json.loads(body)
    data["sampling_params"]["ignore_eos"] = True
    return json.dumps(data).encode()
