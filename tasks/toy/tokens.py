"""The toys' tokenizers: one token per word, the marks of prompts as single tokens, in the layout of fast tokenizers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import cache

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from plphp_core.families.base import STYLES
from tasks.toy.captions import ORDINALS
from tasks.toy.samples import SUB_TASKS, Sample, make_sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES

# The regular expression keeps its matches: words, single marks and line breaks (chat layouts need them); blanks go.
PIECES = r"\n|[A-Za-z0-9_\-]+|[^\sA-Za-z0-9_\-]"
IMAGE_MARK = "<image>"
DRAWN = 60  # samples per sub-task from which words are collected


@cache
def _samples() -> tuple[Sample, ...]:
    rng = random.Random("vocabulary")
    names = [(benchmark, name) for benchmark, names in SUB_TASKS.items() for name in names]
    return tuple(make_sample(benchmark, name, rng, "train") for benchmark, name in names for _ in range(DRAWN))


def words_of(texts: Iterable[str], special: Iterable[str] = ()) -> set[str]:
    """The pieces of the texts, special tokens left out."""
    marks = re.compile("|".join(map(re.escape, [IMAGE_MARK, *special])))
    return {piece for text in texts for piece in re.findall(PIECES, marks.sub(" ", text))}


@cache
def vocabulary(*more: str) -> tuple[str, ...]:
    """Every word and mark of the toy's questions and answers and of the texts `more`, sorted."""
    texts = [*more, "system user assistant", *COLORS, *SHAPES, *PLACES, *ORDINALS]
    for sample in _samples():
        texts += [sample.question, *sample.references, *(text for _, text in sample.turns)]
    return tuple(sorted(words_of(texts) | {"\n"}))


def family_words(toy, special: Iterable[str]) -> tuple[str, ...]:
    """The vocabulary with every piece of the family's own prompts, in both styles, raw JSON included."""
    prompts = (toy.chat(sample, style) for sample in _samples() for style in STYLES)
    return tuple(sorted({*vocabulary(), *words_of(prompts, special)}))


def make_tokenizer(
    special: Iterable[str],
    words: Iterable[str],
    *,
    pad: str,
    end: str,
    unknown: str,
    begin: str | None = None,
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; others become `unknown`.

    Args:
        special: tokens matched before words are split, in the order of their ids; with `pad`, `end` and `begin`.
        end: the tokenizer's end of sequence.
        begin: put in front of every text, as Llama's tokenizers do.
    """
    special = list(special)
    ids = {word: i for i, word in enumerate(dict.fromkeys([*special, unknown, *words]))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=unknown))
    tokenizer.pre_tokenizer = Split(Regex(PIECES), behavior="removed", invert=True)
    if begin is not None:
        both = f"{begin} $A {begin}:1 $B:1"
        tokenizer.post_processor = TemplateProcessing(f"{begin} $A", both, [(begin, ids[begin])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unknown,
        pad_token=pad,
        eos_token=end,
        **({} if begin is None else {"bos_token": begin}),
        additional_special_tokens=[token for token in special if token not in (pad, begin)],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
    )
