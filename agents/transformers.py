"""A policy for any ``AutoModelForImageTextToText`` of transformers.

    policy = TransformersPolicy("agents/nano/model")
    responses = policy.generate(requests)

The model, tokenizer and image processor are the policy's own attributes: a
trainer updates ``policy.model`` in place and the next ``generate`` samples from
the new weights.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.policy import PolicyError, check_request
from agents.registry import missing_extra
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Completion, Request, Response, Role

try:
    import torch

    from agents.decoding import ForwardEngine, Row, Sampled, decode
    from agents.encoding import EncodedPrompt, PromptEncoder
    from agents.loading import load
    from agents.qwen3vl_decode import Qwen3VLEngine, supports
    from agents.sampling import Stream
    from agents.special_tokens import banned_ids, stop_ids
except ModuleNotFoundError as error:
    raise missing_extra(error, "train") from error

_NANO = Path(__file__).parent / "nano" / "model"

BARE = ""
"""Name of no adapter: the base model under them."""


class TransformersPolicy:
    """Plays any role with one model.

    Attributes:
        name: For logs and records.
        model: The model; it may be trained between calls.
        tokenizer: Its tokenizer.
        image_processor: Its PIL image processor (Qwen-VL family), or None.

    Args:
        path_or_model: A folder, a hub id, or a model that is loaded already.
        tokenizer: Needed with a loaded model; else read from the path.
        image_processor: Needed with a loaded model that is shown pictures.
        processor: The whole processor of a family that is not Qwen-VL, in place of
            ``image_processor``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``; ignored with
            a loaded model. ``"auto"`` is float32 on a CPU.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, …; ignored with a loaded model.
        name: Defaults to ``transformers:PATH``.
        max_rows: Most completions that are decoded together.
        max_cache_tokens: Bound on rows × (prompt + ``max_tokens``) of one batch,
            which bounds the memory of its key-value cache.
        fast: Use the faster equivalent engine where it applies; ``False`` is for
            comparison.
        adapters: A folder with one LoRA adapter a role (``proposer``, ``coder``,
            ``solver``); each request is answered through the adapter of its role. See
            :mod:`agents.adapters`.
        compile: Compile the decoding step with ``torch.compile``. It pays on a GPU after a
            minute or two of warm-up; on a CPU, and for small models, it does not.

    Raises:
        UserError: If the model cannot be loaded or cannot take an image and text.
    """

    def __init__(
        self,
        path_or_model: Any,
        *,
        tokenizer: Any = None,
        image_processor: Any = None,
        processor: Any = None,
        dtype: str = "auto",
        device: str = "auto",
        name: str | None = None,
        max_rows: int = 512,
        max_cache_tokens: int = 2**18,
        fast: bool = True,
        adapters: str | Path | None = None,
        compile: bool = False,
    ) -> None:
        """See the class."""
        if max_rows < 1 or max_cache_tokens < 1:
            raise UserError(
                f"max_rows and max_cache_tokens must be at least 1, came {max_rows} and "
                f"{max_cache_tokens}"
            )
        if isinstance(path_or_model, str | Path):
            loaded = load(str(path_or_model), dtype=dtype, device=device)
            self.model = loaded.model
            tokenizer = tokenizer or loaded.tokenizer
            image_processor = image_processor or loaded.image_processor
            processor = processor or loaded.processor
            self.name = name or f"transformers:{path_or_model}"
        else:
            if tokenizer is None:
                raise UserError("a model that is loaded already needs tokenizer=… beside it")
            self.model = path_or_model
            self.name = name or f"transformers:{type(path_or_model).__name__}"
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        config = self.model.config
        self._encoder = PromptEncoder(
            tokenizer,
            image_processor=image_processor,
            processor=processor,
            image_token_id=getattr(config, "image_token_id", None),
        )
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        self._stop_ids = stop_ids(self.model.generation_config, tokenizer)
        self._banned_ids = banned_ids(config, self.model.generation_config, vocabulary)
        pad = tokenizer.pad_token_id
        self._pad_id = self._stop_ids[0] if pad is None else pad
        self._max_rows = max_rows
        self._max_cache_tokens = max_cache_tokens
        self._fast = fast
        self._compile = compile
        self._compiled: tuple[Any, Any] = (None, None)
        if adapters is not None:
            from agents.adapters import load_adapters

            load_adapters(self, Path(adapters))

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Token ids that are never sampled: the placeholders and brackets of vision."""
        return self._banned_ids

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Token ids that end a completion."""
        return self._stop_ids

    def encode(self, request: Request) -> EncodedPrompt:
        """What the model reads for a request: ids, patches, grid.

        Args:
            request: Its prompt and image are read.

        Raises:
            UserError: If it has an image and the model no image processor.
        """
        return self._encoder.encode(request)

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """What the model thinks of a completion that somebody else wrote.

        Args:
            request: Its prompt and role are read; it has no image.
            completion_ids: Token ids, at least one.

        Returns:
            The prompt's token ids, and the natural-log probability of each completion token
            under the whole vocabulary at temperature 1.

        Raises:
            UserError: If the request has an image.
        """
        return self.score_as(request.role, request, completion_ids)

    def score_as(
        self, adapter: str, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The same through one adapter, whatever the role; see :meth:`generate_as`."""
        if request.image is not None:
            raise UserError(f"request {request.id}: only a text prompt can be scored")
        prompt = self.encode(request).prompt_ids
        ids = torch.tensor([[*prompt, *completion_ids]], device=self.model.device)
        with torch.no_grad(), self._adapter(adapter):
            logits = self.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        chances = logits.float().log_softmax(-1)
        picked = chances[range(len(completion_ids)), list(completion_ids)]
        return prompt, tuple(picked.tolist())

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; see :class:`agents.policy.Policy`.

        Raises:
            PolicyError: If the model fails, its logits are not finite, or memory
                runs out.
        """
        if not self._adapters():
            return self._generate(requests)
        answers: dict[int, Response] = {}
        for role in dict.fromkeys(request.role for request in requests):
            places = [i for i, request in enumerate(requests) if request.role == role]
            part = self.generate_as(role, [requests[i] for i in places])
            answers.update(zip(places, part, strict=True))
        return [answers[i] for i in range(len(requests))]

    def generate_as(self, adapter: str, requests: Sequence[Request]) -> list[Response]:
        """Answer requests through one adapter, whatever their own role.

        Args:
            adapter: Its name: the role's, as a rule. A role without one plays with the bare
                base model, as :data:`BARE` always does.
            requests: What to answer.

        Raises:
            PolicyError: As for :meth:`generate`.
        """
        with self._adapter(adapter):
            return self._generate(requests)

    def _adapters(self) -> set[Role]:
        """Roles with an adapter of their own. A model may have another one, for all."""
        known = getattr(self.model, "peft_config", {})
        return {role for role in ROLES if role in known}

    @contextmanager
    def _adapter(self, name: str) -> Generator[None]:
        """An adapter switched on, where the model has adapters of roles or one of this name."""
        known = getattr(self.model, "peft_config", {})
        if name in known:
            self.model.set_adapter(name)
            yield
        elif self._adapters() or (known and name == BARE):
            with self.model.disable_adapter():
                yield
        else:
            yield

    def _generate(self, requests: Sequence[Request]) -> list[Response]:
        if not requests:
            return []
        for request in requests:
            check_request(request)
        encoded = self._encoder.encode_all(requests)
        sampled: dict[tuple[int, int], Sampled] = {}
        training = self.model.training
        if training:
            self.model.eval()
        try:
            for prompts, rows, places in self._batches(requests, encoded):
                results = decode(
                    self._engine(),
                    prompts,
                    rows,
                    stop_ids=self._stop_ids,
                    banned_ids=self._banned_ids,
                )
                sampled.update(zip(places, results, strict=True))
        except (PolicyError, UserError):
            raise
        except Exception as error:
            raise PolicyError(
                f"{self.name} failed while sampling {len(requests)} requests "
                f"(longest prompt {max(len(e.prompt_ids) for e in encoded)} tokens): {error}. "
                "If memory ran out, lower max_rows or max_cache_tokens."
            ) from error
        finally:
            if training:
                self.model.train()
        keys = [(i, j) for i, request in enumerate(requests) for j in range(request.n)]
        texts = self._texts([sampled[key] for key in keys])
        completions = {
            key: Completion(
                text, sampled[key].token_ids, sampled[key].logprobs, sampled[key].finish_reason
            )
            for key, text in zip(keys, texts, strict=True)
        }
        return [
            Response(
                request.id,
                tuple(completions[i, j] for j in range(request.n)),
                encoded[i].prompt_ids,
            )
            for i, request in enumerate(requests)
        ]

    def _engine(self) -> Any:
        if self._compile:
            return ForwardEngine(self.model, self._pad_id, self._compiled_forward())
        if self._fast and supports(self.model):
            return Qwen3VLEngine(self.model, self._pad_id)
        return ForwardEngine(self.model, self._pad_id)

    def _compiled_forward(self) -> Any:
        """The model's forward, compiled once; shapes are dynamic because the cache grows."""
        model, compiled = self._compiled
        if model is not self.model:
            compiled = torch.compile(self.model.forward, dynamic=True)
            self._compiled = self.model, compiled
        return compiled

    def _texts(self, results: Sequence[Sampled]) -> list[str]:
        stops = set(self._stop_ids)
        bare = [[i for i in result.token_ids if i not in stops] for result in results]
        return self.tokenizer.batch_decode(
            bare, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _batches(
        self, requests: Sequence[Request], encoded: Sequence[EncodedPrompt]
    ) -> Iterator[tuple[list[EncodedPrompt], list[Row], list[tuple[int, int]]]]:
        """Cut the work into batches of prompts of like length.

        Requests with the same prompt and picture share one prompt of a batch.

        Yields:
            Prompts, rows ordered by prompt, and for each row the request and sample
            that it answers.
        """
        shared: dict[tuple[Any, ...], list[int]] = {}
        for i, entry in enumerate(encoded):
            shared.setdefault((entry.prompt_ids, entry.image_key), []).append(i)
        by_length = sorted(shared.values(), key=lambda members: len(encoded[members[0]].prompt_ids))
        prompts: list[EncodedPrompt] = []
        rows: list[Row] = []
        places: list[tuple[int, int]] = []
        longest = 0
        for members in by_length:
            prompt = encoded[members[0]]
            opened = False
            for place in [(i, j) for i in members for j in range(requests[i].n)]:
                request = requests[place[0]]
                # Prompts arrive in order of length, so this one sets the padded width.
                need = len(prompt.prompt_ids) + max(longest, request.sampling.max_tokens)
                full = (
                    len(rows) >= self._max_rows or (len(rows) + 1) * need > self._max_cache_tokens
                )
                if rows and full:
                    yield prompts, rows, places
                    prompts, rows, places, longest, opened = [], [], [], 0, False
                if not opened:
                    prompts.append(prompt)
                    opened = True
                longest = max(longest, request.sampling.max_tokens)
                stream = Stream(request.seed, place[1])
                rows.append(Row(len(prompts) - 1, stream, request.sampling))
                places.append(place)
        if rows:
            yield prompts, rows, places


def nano(
    argument: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    name: str | None = None,
    max_rows: int = 512,
) -> TransformersPolicy:
    """The bundled nano vision-language model.

    Args:
        argument: Empty: there is one nano model.
        dtype: See :class:`TransformersPolicy`.
        device: See :class:`TransformersPolicy`.
        name: Defaults to ``nano``.
        max_rows: See :class:`TransformersPolicy`.

    Raises:
        UserError: If an argument came, or the model is not in the installation.
    """
    if argument:
        raise UserError(
            f"policy 'nano' takes no argument, came {argument!r}; "
            "a model of your own is 'transformers:PATH'"
        )
    if not (_NANO / "config.json").is_file():
        raise UserError(
            f"the nano model is not in {_NANO}; train it with: python -m agents.nano.pretrain"
        )
    return TransformersPolicy(
        _NANO, dtype=dtype, device=device, name=name or "nano", max_rows=max_rows
    )
