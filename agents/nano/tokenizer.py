"""The nano model's tokenizer: byte-level BPE with a few hundred tokens.

Words, digit runs, tags and SVG attribute heads are isolated before merging, so a
colour is the same token wherever a sentence names it. A word that changed its
token with its surroundings would hide from the model that a question and a
caption speak of the same thing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agents.nano.demonstrations import CLEAN, NOISY, code, proposal, solution
from mmzero_env import world
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import QUESTIONS, TOPICS
from mmzero_env.world.spec import HEAD

# The special tokens of the Qwen-VL chat format.
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

DESCRIBE = "Describe the picture."
"""A pre-training task only: writing the caption teaches the vision tower to see."""

# One user or assistant turn after another; an image goes where its content part stands.
# "-%}" would also eat the newline after the role, so newlines are emitted as strings.
CHAT_TEMPLATE = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}"
    "{%- if m.content is string -%}{{- m.content -}}{%- else -%}"
    "{%- for c in m.content -%}{%- if c.type == 'image' -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- c.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

_PIECES = (
    r"</?[a-z_]+>"  # a tag without attributes
    r"|<[a-z]+ [a-z-]+=\""  # an element up to its first attribute value
    r"|\" [a-z-]+=\""  # from one attribute value to the next
    r"|\"/?>|\\boxed\{"
    r"| ?[A-C][1-3]| ?\d+| ?[A-Za-z]+|\s+|[^\sA-Za-z\d<>\"\\]+|."
)


def _corpus(specs: int) -> Iterator[str]:
    rng = random.Random(0)
    prompts = get_prompts("nano")
    yield from (prompts.proposer(topic) for topic in TOPICS for _ in range(50))
    for _ in range(specs):
        spec = world.sample_spec(rng)
        yield code(spec, rng, NOISY)
        yield proposal(spec, rng, CLEAN)
        for level in QUESTIONS:
            question = spec.ask(level, rng)
            yield prompts.solver_from_caption(spec.caption(), question)
            yield solution(spec, question, rng, 0.3)
        yield "user\nassistant\n" + DESCRIBE


def build(vocab_size: int = 768, specs: int = 4000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on what the roles read and write.

    Args:
        vocab_size: Tokens at most, special ones included; all 256 bytes are among them.
        specs: Specs in the training corpus.

    Returns:
        A tokenizer with the Qwen-VL special tokens and the chat template.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    # The constant opening of every SVG is one ordinary (not special) token.
    bpe.add_tokens([AddedToken(HEAD, normalized=False)])
    bpe.train_from_iterator(
        _corpus(specs),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.add_tokens([AddedToken(HEAD, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
