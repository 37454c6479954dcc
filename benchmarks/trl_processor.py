"""A processor of the Qwen3-VL family that works without torchvision, for TRL's own trainer."""

from __future__ import annotations

from typing import Any

from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessorKwargs
from transformers.processing_utils import ProcessorMixin


class PictureProcessor(ProcessorMixin):
    """Chat template, tokenizer and PIL image processor in one, as TRL wants them.

    The family's own class wants a video processor, and that one torchvision.

    Args:
        image_processor: With ``merge_size``.
        tokenizer: With the chat template.
    """

    valid_processor_kwargs = Qwen3VLProcessorKwargs

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        """See the class."""
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=tokenizer.chat_template)

    def replace_image_token(
        self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any
    ) -> str:
        """As many image tokens as the picture takes."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return self.image_token * (patches // self.image_processor.merge_size**2)
