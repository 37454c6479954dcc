"""From a request to what a model reads: token ids, image patches, positions' types.

The prompt is one user message in the model's own chat template, the picture
before the text. The text is data: a special token spelled out in it
(``<|im_end|>``, ``<|image_pad|>``) is read letter by letter and can neither end
the message nor stand for a picture.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image as PILImage
from transformers import PreTrainedTokenizerFast

from mmzero_env.errors import UserError
from mmzero_env.protocol import Image, Request

# Stands for the user's text while the template is rendered. The text itself never
# passes through the template, so no template can trim or interpret it.
_SLOT = "MMZERO-USER-TEXT"


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One prompt as a model reads it.

    Attributes:
        prompt_ids: Token ids, image placeholders expanded, generation prompt
            included.
        pixel_values: The image processor's output for the one picture, float32;
            shape (patches, channels * patch volume) for the Qwen-VL family. None
            without a picture.
        image_grid_thw: Shape (1, 3), int64: frames, rows and columns of patches.
            None without a picture or for families without such a grid.
        mm_token_type_ids: 0 for text, 1 for an image token; as long as
            ``prompt_ids``.
        image_key: Digest of the picture; equal pictures have equal keys.
        extras: Other tensors that a processor made, batch dimension first.
    """

    prompt_ids: tuple[int, ...]
    pixel_values: torch.Tensor | None = None
    image_grid_thw: torch.Tensor | None = None
    mm_token_type_ids: tuple[int, ...] = ()
    image_key: bytes | None = None
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)


class PromptEncoder:
    """Encodes requests for one model.

    Two ways lead to the image tokens. For the Qwen-VL family the tokenizer and a
    PIL image processor are enough, which keeps torchvision out of the
    installation. Any other family goes through its own ``processor``.

    Attributes:
        backend: What does the work of the tokenizer, if that adds nothing of its own to it; asked
            directly it is a third quicker than through transformers. None if it does.

    Args:
        tokenizer: The model's tokenizer, with a chat template.
        image_processor: Gives ``pixel_values`` and ``image_grid_thw``; has
            ``merge_size``. None for a model that never sees a picture here.
        processor: A whole ``ProcessorMixin``, used for pictures if given.
        image_token_id: The placeholder that one image patch group stands behind.

    Raises:
        UserError: If the tokenizer has no chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        image_processor: Any = None,
        processor: Any = None,
        image_token_id: int | None = None,
    ) -> None:
        """See the class."""
        self.tokenizer = tokenizer
        self.backend = _backend(tokenizer)
        self.image_processor = image_processor
        self.processor = processor
        self.image_token_id = image_token_id
        self._templater = processor if getattr(processor, "chat_template", None) else tokenizer
        if not getattr(self._templater, "chat_template", None):
            raise UserError(
                "the tokenizer has no chat template, and prompts are chat messages; expected "
                "chat_template.jinja beside tokenizer.json, or an instruction-tuned model"
            )
        self._frames: dict[bool, tuple[str, str]] = {}
        names = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        names |= set(tokenizer.all_special_tokens)
        if image_token_id is not None:
            names.add(tokenizer.convert_ids_to_tokens(image_token_id))
        # A look-ahead, so that occurrences that overlap are all found.
        pattern = "|".join(re.escape(name) for name in sorted(names) if len(name) > 1)
        self._special = re.compile(f"(?=(?:{pattern}))" if pattern else "(?!)")

    def encode(self, request: Request) -> EncodedPrompt:
        """Encode one request.

        Args:
            request: Its prompt and image are read; ``request.proposal`` is not.

        Raises:
            UserError: If it has an image and the model's folder no image processor.
        """
        return self.encode_all([request])[0]

    def encode_all(self, requests: Sequence[Request]) -> list[EncodedPrompt]:
        """Encode requests; equal pictures and equal prompts are processed once."""
        keys: dict[int, bytes] = {}
        pictures: dict[bytes, Mapping[str, Any]] = {}
        done: dict[tuple[str, bytes | None], EncodedPrompt] = {}
        encoded = []
        for request in requests:
            image, key = request.image, None
            if image is not None:
                key = keys.get(id(image)) or keys.setdefault(id(image), image_key(image))
            entry = (request.prompt, key)
            if entry not in done:
                if image is None or key is None:
                    done[entry] = self._encode_text(request.prompt)
                elif self.processor is not None:
                    done[entry] = self._encode_processed(request.prompt, image, key)
                else:
                    if key not in pictures:
                        pictures[key] = self._process(image)
                    done[entry] = self._encode_grid(request.prompt, pictures[key], key)
            encoded.append(done[entry])
        return encoded

    def unexpanded(self, text: str, *, with_image: bool) -> tuple[int, ...]:
        """Token ids of a prompt in which one placeholder stands for the picture.

        Args:
            text: The user's text.
            with_image: Whether a picture stands before it.

        Returns:
            What :meth:`encode` gives, the placeholders of a picture being one.
        """
        before, after = self._frame(with_image=with_image)
        return self._ids(before, self.pieces(text), after)

    def pieces(self, text: str) -> list[str]:
        """Cut a text inside every special token that it spells out.

        Args:
            text: Any text.

        Returns:
            Pieces that join to ``text`` and contain no special token.
        """
        cuts = [match.start() + 1 for match in self._special.finditer(text)]
        return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def _encode_text(self, text: str) -> EncodedPrompt:
        before, after = self._frame(with_image=False)
        ids = self._ids(before, self.pieces(text), after)
        return EncodedPrompt(ids, mm_token_type_ids=(0,) * len(ids))

    def _encode_grid(self, text: str, picture: Mapping[str, Any], key: bytes) -> EncodedPrompt:
        before, after = self._frame(with_image=True)
        grid = picture["image_grid_thw"]
        tokens = int(grid.prod()) // self.image_processor.merge_size**2
        name = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        if before.count(name) != 1:
            raise UserError(
                f"the chat template must place {name!r} once, before the text, for one picture; "
                f"it wrote {before!r} before the text"
            )
        ids = self._ids(before.replace(name, name * tokens), self.pieces(text), after)
        return EncodedPrompt(
            prompt_ids=ids,
            pixel_values=picture["pixel_values"],
            image_grid_thw=grid,
            mm_token_type_ids=tuple(int(i == self.image_token_id) for i in ids),
            image_key=key,
        )

    def _encode_processed(self, text: str, image: Image, key: bytes) -> EncodedPrompt:
        before, after = self._frame(with_image=True)
        head, *rest = self.pieces(text)
        tail = [*rest[:-1], rest[-1] + after] if rest else []
        head = before + head + ("" if rest else after)
        out = dict(
            self.processor(
                text=[head],
                images=[PILImage.fromarray(image)],
                return_tensors="pt",
                add_special_tokens=False,
            )
        )
        ids = tuple(out.pop("input_ids")[0].tolist())
        out.pop("attention_mask", None)
        more = tuple(i for piece in tail for i in self._tokens(piece))
        types = out.pop("mm_token_type_ids", None)
        marks = [int(i == self.image_token_id) for i in ids] if types is None else types[0].tolist()
        for name, value in out.items():
            if value.shape[:2] == (1, len(ids)):
                out[name] = torch.nn.functional.pad(value, (0, len(more)))
        return EncodedPrompt(
            prompt_ids=ids + more,
            pixel_values=out.pop("pixel_values"),
            image_grid_thw=out.pop("image_grid_thw", None),
            mm_token_type_ids=tuple(marks) + (0,) * len(more),
            image_key=key,
            extras=out,
        )

    def _process(self, image: Image) -> Mapping[str, Any]:
        if self.image_processor is None:
            raise UserError(
                "the request has a picture and no image processor was found for the model; "
                "expected preprocessor_config.json in its folder"
            )
        return self.image_processor(images=[PILImage.fromarray(image)], return_tensors="pt")

    def _frame(self, *, with_image: bool) -> tuple[str, str]:
        """What the template writes before and after the user's text."""
        if with_image not in self._frames:
            content = [{"type": "image"}] if with_image else []
            content.append({"type": "text", "text": _SLOT})
            message = {"role": "user", "content": content}
            rendered = self._templater.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True
            )
            if rendered.count(_SLOT) != 1:
                raise UserError(
                    "the chat template must write the text of a content list once; "
                    f"for a message with the text {_SLOT!r} it wrote {rendered!r}"
                )
            before, _, after = rendered.partition(_SLOT)
            self._frames[with_image] = (before, after)
        return self._frames[with_image]

    def _ids(self, before: str, pieces: Sequence[str], after: str) -> tuple[int, ...]:
        if len(pieces) == 1:
            return tuple(self._tokens(before + pieces[0] + after))
        parts = [before + pieces[0], *pieces[1:-1], pieces[-1] + after]
        return tuple(i for part in parts for i in self._tokens(part))

    def _tokens(self, text: str) -> list[int]:
        fast = self.backend
        if fast is None or fast.truncation or fast.padding or fast.encode_special_tokens:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return fast.encode_batch_fast([text], add_special_tokens=False)[0].ids


def _backend(tokenizer: Any) -> Any:
    base = PreTrainedTokenizerFast
    if not isinstance(tokenizer, base) or tokenizer.split_special_tokens:
        return None
    names = ("__call__", "_encode_plus", "decode", "_decode")
    same = all(getattr(type(tokenizer), name) is getattr(base, name) for name in names)
    return tokenizer.backend_tokenizer if same else None


def image_key(image: Image) -> bytes:
    """A digest that equal pictures share.

    Args:
        image: Shape (H, W, 3), dtype uint8.

    Returns:
        16 bytes.

    Raises:
        UserError: For any other shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8":
        raise UserError(
            f"an image is an RGB array of shape (H, W, 3) and dtype uint8, "
            f"came {image.shape} {image.dtype}"
        )
    return hashlib.blake2b(image.tobytes(), digest_size=16, key=repr(image.shape).encode()).digest()
