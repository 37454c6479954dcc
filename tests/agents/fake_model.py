"""What the FAKE server of :mod:`fake_server` answers: words at random, and no model behind them.

Requests are checked more strictly than a real server does: a field that is not known, a value
of a wrong type, a picture that is no PNG or a message in another layout is a complaint.
"""

from __future__ import annotations

import base64
import io
import random
import threading
from pathlib import Path
from typing import Any

from PIL import Image

CHAT, GENERATE = "/v1/chat/completions", "/inference/v1/generate"
CHAT_FIELDS = {
    "model": str,
    "messages": list,
    "n": int,
    "seed": int,
    "temperature": (int, float),
    "top_p": (int, float),
    "top_k": int,
    "max_tokens": int,
    "max_completion_tokens": int,
    "logprobs": bool,
    "reasoning_effort": str,
}
GENERATE_FIELDS = {
    "request_id": str,
    "model": str,
    "token_ids": list,
    "sampling_params": dict,
    "content_parts": list,
    "return_token_ids": bool,
}
SAMPLING_FIELDS = {
    "n": int,
    "seed": int,
    "temperature": (int, float),
    "top_p": (int, float),
    "top_k": int,
    "max_tokens": int,
    "logprobs": int,
    "prompt_logprobs": int,
    "detokenize": bool,
    "stop_token_ids": list,
    "ignore_eos": bool,
    "logit_bias": dict,
}


class Complaint(Exception):
    """What is wrong with a request."""

    def __init__(self, message: str, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class FakeModel:
    """The answers to every path, and the state they depend on."""

    def __init__(self, tokenizer: Any = None, *, base: str = "fake", root: str = "fake") -> None:
        self.tokenizer, self.base, self.root = tokenizer, base, root
        self.adapters: dict[str, str] = {}
        # Weights of the whole model: what vLLM calls its development mode, and the served name
        # of this start of the server.
        self.started_as, self.weights, self.dev_mode = "", "", True
        self.resumed, self.generating, self.quiet = True, 0, threading.Condition()
        self.honours_n, self.processed_logprobs, self.scale_out = True, True, True
        self.runtime_lora, self.context, self.image_id = True, 100_000, 5

    def answer(self, path: str, body: dict[str, Any], request_id: str) -> Any:
        if path == "/version":
            return {"version": "0.0", "fake": True}
        if path == "/v1/models":
            first = {self.started_as: self.root} if self.started_as else {}
            served = {**first, self.base: self.root, **self.adapters}
            return {"object": "list", "data": [{"id": k, "root": v} for k, v in served.items()]}
        if path == CHAT:
            return self._chat(body)
        if path == "/tokenize":
            (message,) = _typed(body, {"model": str, "messages": list})["messages"]
            ids = self.tokenizer.apply_chat_template(
                [message], add_generation_prompt=True, return_dict=False
            )
            return {"count": len(ids), "tokens": ids}
        if path == GENERATE and self.scale_out:
            # Requests that came before a pause are answered; later ones wait for its end.
            with self.quiet:
                self.quiet.wait_for(lambda: self.resumed, 20)
                self.generating += 1
            try:
                return self._generate(body, request_id)
            finally:
                with self.quiet:
                    self.generating -= 1
                    self.quiet.notify_all()
        if self.dev_mode and path in ("/pause?mode=wait", "/resume", "/collective_rpc"):
            return self._weights(path, body)
        if path == "/v1/load_lora_adapter" and self.runtime_lora:
            _typed(body, {"lora_name": str, "lora_path": str})
            if body["lora_name"] in self.adapters:
                raise Complaint(f"The lora adapter '{body['lora_name']}' has already been loaded.")
            self.adapters[body["lora_name"]] = body["lora_path"]
            return "Success: LoRA adapter added successfully."
        if path == "/v1/unload_lora_adapter" and self.runtime_lora:
            _typed(body, {"lora_name": str})
            if self.adapters.pop(body["lora_name"], None) is None:
                raise Complaint("The lora adapter cannot be found.", 404)
            return "Success: LoRA adapter removed successfully."
        raise LookupError(path)

    def restarted(self, name: str) -> None:
        """What is lost when a server that takes weights is started again."""
        self.started_as, self.weights, self.resumed = name, "", True

    def _weights(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path != "/collective_rpc":
            _typed(body, {})
            with self.quiet:
                self.resumed = path == "/resume"
                self.quiet.notify_all()
                self.quiet.wait_for(lambda: self.resumed or not self.generating, 20)
            return {"status": "resumed" if path == "/resume" else "paused"}
        _typed(body, {"method": str, "kwargs": dict})
        _typed(body["kwargs"], {"weights_path": str})
        if body["method"] != "reload_weights":
            raise Complaint(f"no method {body['method']!r}")
        if self.resumed or self.generating:
            raise Complaint("weights are loaded while nothing is generated")
        if not (Path(body["kwargs"]["weights_path"]) / "model.safetensors").is_file():
            raise Complaint("no weights there", 500)
        self.weights = body["kwargs"]["weights_path"]
        return {"results": [None, None]}

    def _model(self, name: str) -> None:
        if name not in (self.base, self.started_as, *self.adapters):
            raise Complaint(f"The model `{name}` does not exist.", 404, "model")

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        _typed(body, CHAT_FIELDS, ("model", "messages"))
        self._model(body["model"])
        text = _message_text(body["messages"])
        limit = body.get("max_tokens", body.get("max_completion_tokens", 16))
        if len(text.split()) + limit > self.context:
            raise Complaint(
                f"This model's maximum context length is {self.context} tokens. However, you "
                f"requested {limit} output tokens and your prompt contains at least "
                f"{len(text.split())} input tokens."
            )
        choices = []
        for k in range(body.get("n", 1) if self.honours_n else 1):
            rng = random.Random(f"{body['model']}/{text}/{body.get('seed', 0) + k}")
            words = [rng.choice("red blue seven 42 circle".split()) for _ in range(5)]
            choice: dict[str, Any] = {
                "index": k,
                "message": {"role": "assistant", "content": " ".join(words)},
                "finish_reason": "stop",
                "logprobs": None,
            }
            if body.get("logprobs"):
                table = [{"token": word, "logprob": -rng.random()} for word in words]
                choice["logprobs"] = {"content": table}
            choices.append(choice)
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": 5 * len(choices)}
        return {"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}

    def _generate(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        _typed(body, GENERATE_FIELDS, ("request_id", "model", "token_ids", "sampling_params"))
        params = _typed(body["sampling_params"], SAMPLING_FIELDS, ("seed", "max_tokens"))
        self._model(body["model"])
        if not all(type(i) is int and 0 <= i < len(self.tokenizer) for i in body["token_ids"]):
            raise Complaint("token_ids must be ids of the vocabulary")
        ids = self._expanded(body["token_ids"], body.get("content_parts", []))
        if len(ids) >= self.context:
            raise Complaint(
                f"The decoder prompt (length {len(ids)}) is longer than the maximum model length "
                f"of {self.context}."
            )
        bias = {int(key): value for key, value in params.get("logit_bias", {}).items()}
        forced = [i for i, value in bias.items() if value == 100]
        stops = params.get("stop_token_ids") or [self.tokenizer.eos_token_id]
        choices = []
        for k in range(params.get("n", 1)):
            played = body["model"] if body["model"] in self.adapters else self.weights
            rng = random.Random(f"{played or self.base}/{ids}/{params['seed'] + k}")
            few = min(params["max_tokens"], 1 + rng.randrange(6))
            few = params["max_tokens"] if params.get("ignore_eos") else few
            words = forced or [rng.randrange(20, len(self.tokenizer)) for _ in range(few)]
            tokens = words if few == params["max_tokens"] else [*words, stops[0]]
            certain = forced and self.processed_logprobs
            table = [
                {"token": f"token_id:{i}", "logprob": 0.0 if certain else -rng.random() - 0.1}
                for i in tokens
            ]
            choices.append(
                {
                    "index": k,
                    "token_ids": tokens,
                    "logprobs": {"content": table},
                    "finish_reason": "length" if tokens is words else "stop",
                }
            )
        scores = None
        if params.get("prompt_logprobs") is not None:
            scores = [None, *({str(i): {"logprob": -i / 1000, "rank": 1}} for i in ids[1:])]
        return {
            "request_id": f"generate-tokens-{request_id or body['request_id']}",
            # The first served name stands for all names of the base, as in vLLM.
            "model": body["model"]
            if body["model"] in self.adapters
            else self.started_as or self.base,
            "choices": choices,
            "prompt_token_ids": ids if body.get("return_token_ids") else None,
            "prompt_logprobs": scores,
            "usage": {
                "prompt_tokens": len(ids),
                "completion_tokens": sum(len(c["token_ids"]) for c in choices),
            },
        }

    def _expanded(self, ids: list[int], parts: list[Any]) -> list[int]:
        if ids.count(self.image_id) != len(parts):
            raise Complaint(f"{len(parts)} pictures for {ids.count(self.image_id)} placeholders")
        for part in parts:
            width, height = _png(_typed(part, {"type": str, "url": str})["url"])
            place, tokens = ids.index(self.image_id), width // 32 * (height // 32)
            ids = ids[:place] + [self.image_id] * tokens + ids[place + 1 :]
        return ids


def _typed(data: Any, fields: dict[str, Any], needed: tuple[str, ...] | None = None) -> Any:
    """See that an object has the fields it needs, no others, each of its type."""
    if not isinstance(data, dict):
        raise Complaint(f"expected an object, came {data!r}")
    for name, value in data.items():
        kinds = fields.get(name)
        if kinds is None:
            raise Complaint(f"unknown field {name!r}", param=name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise Complaint(f"{name!r} has the wrong type: {value!r}", param=name)
    for name in fields if needed is None else needed:
        if name not in data:
            raise Complaint(f"field {name!r} is missing", param=name)
    return data


def _message_text(messages: list[Any]) -> str:
    """The text of one user message: a string, or a picture and then a text."""
    if len(messages) != 1:
        raise Complaint(f"expected one message, came {len(messages)}")
    message = _typed(messages[0], {"role": str, "content": (str, list)})
    if message["role"] != "user":
        raise Complaint(f"expected a user's message, came {message['role']!r}")
    if isinstance(message["content"], str):
        return message["content"]
    picture, text = message["content"]
    _typed(picture, {"type": str, "image_url": dict})
    _typed(text, {"type": str, "text": str})
    if (picture["type"], text["type"]) != ("image_url", "text"):
        raise Complaint("expected a picture and then a text")
    _png(_typed(picture["image_url"], {"url": str})["url"])
    return text["text"]


def _png(url: str) -> tuple[int, int]:
    head, _, data = url.partition(",")
    if head != "data:image/png;base64":
        raise Complaint(f"expected a PNG as data URL, came {head!r}")
    try:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            if image.format != "PNG" or image.mode != "RGB":
                raise Complaint(f"expected an RGB PNG, came {image.format} {image.mode}")
            return image.size
    except (ValueError, OSError) as cause:
        raise Complaint(f"the picture cannot be read: {cause}") from cause
