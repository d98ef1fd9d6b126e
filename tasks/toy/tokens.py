"""The toy tokenizer: one token per word, ChatML marks as single tokens, in the layout of a Qwen2 fast tokenizer."""

from __future__ import annotations

import random
import re
from functools import cache

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from tasks.toy.captions import ORDINALS
from tasks.toy.samples import SUB_TASKS, make_sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES

PAD, START, END, IMAGE, VIDEO, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>", "<unk>"
SPECIAL = (PAD, START, END, IMAGE, VIDEO)

SYSTEM = "You are a helpful assistant."
# The regular expression keeps its matches: words, single marks and line breaks (ChatML needs them); blanks go.
PIECES = r"\n|[A-Za-z0-9_\-]+|[^\sA-Za-z0-9_\-]"

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\n" + SYSTEM + "<|im_end|>\n"
    "{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word and mark that the toy's texts contain, sorted; found by writing many of them."""
    rng = random.Random("vocabulary")
    texts = [SYSTEM, "system user assistant", *COLORS, *SHAPES, *PLACES, *ORDINALS]
    for benchmark, sub_tasks in SUB_TASKS.items():
        for sub_task in sub_tasks:
            for _ in range(60):
                sample = make_sample(benchmark, sub_task, rng, "train")
                texts += [sample.question, *sample.references, *(text for _, text in sample.turns)]
    pieces = {piece for text in texts for piece in re.findall(PIECES, text.replace(IMAGE, " "))}
    return tuple(sorted(pieces | {"\n"}))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; words outside the vocabulary become `<unk>`."""
    words = [*SPECIAL, UNKNOWN, *vocabulary()]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(PIECES), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, END, IMAGE, VIDEO],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
