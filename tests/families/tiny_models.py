"""Every family as the tests have it: a tiny random model, four samples, and how many tokens their images take."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.factories import prompt_batch, tiny_llava_onevision, tiny_processor, tokens_of
from tests.families.gemma3_factory import IMAGE_SIZE as GEMMA_SIZE
from tests.families.gemma3_factory import gemma3_batch, gemma3_processor, tiny_gemma3
from tests.families.idefics2_factory import LATENTS, idefics2_batch, idefics2_processor, tiny_idefics2
from tests.families.idefics3_factory import CROP_TOKENS, idefics3_batch, idefics3_processor, tiny_idefics3
from tests.families.internvl_factory import TILE_TOKENS, internvl_batch, internvl_processor, tiny_internvl
from tests.families.llava_factory import IMAGE_SIZE as LLAVA_SIZE
from tests.families.llava_factory import llava_1_5_batch, llava_1_5_processor, tiny_llava_1_5
from tests.families.llava_next_factory import (
    llava_next_batch,
    llava_next_processor,
    llava_next_tokens,
    tiny_llava_next,
)
from tests.families.mantis_factory import IMAGE_SIZE, mantis_batch, mantis_processor, tiny_mantis
from tests.families.qwen_factory import qwen_batch, tiny_qwen, tiny_qwen_processor


@dataclass(frozen=True)
class TinyFamily:
    """A sample is text lengths (int) and images (a tuple each), in order; `tokens(model, images)` counts theirs."""

    model: Callable
    processor: Callable
    batch: Callable
    samples: list
    tokens: Callable

    def sizes(self, model, sample):
        """Vision tokens of each image of a sample."""
        images = [part for part in sample if not isinstance(part, int)]
        return self.tokens(model, images) if images else []


def qwen(family):
    samples = [[4, (2, 3, 1), 5], [3, (2, 2, 1), (3, 2, 2), 4, (1, 4, 3), 6], [7], [(4, 4, 5), 1, (2, 2, 6), 3]]
    return TinyFamily(
        lambda **k: tiny_qwen(family, **k),
        lambda **k: tiny_qwen_processor(family, **k),
        qwen_batch,
        samples,
        lambda _, images: [h * w for h, w, _ in images],
    )


def internvl(decoder):
    samples = [[4, (3, 1), 5], [3, (1, 2), (4, 3), 4, (1, 4), 6], [7], [(5, 5), 1, (1, 6), 3]]
    return TinyFamily(
        lambda **k: tiny_internvl(**{"decoder": decoder} | k),
        lambda **k: internvl_processor(**k),
        internvl_batch,
        samples,
        lambda _, images: [TILE_TOKENS * tiles for tiles, _ in images],
    )


def idefics3(family):
    samples = [[4, (1, 2, 1), 5], [3, (0, 0, 2), (2, 2, 3), 4, (2, 1, 4), 6], [7], [(1, 1, 5), 1, (0, 0, 6), 3]]
    return TinyFamily(
        lambda **k: tiny_idefics3(family, **k),
        lambda **k: idefics3_processor(family, **k),
        idefics3_batch,
        samples,
        lambda _, images: [CROP_TOKENS * (rows * columns + 1) for rows, columns, _ in images],
    )


TILED = [4, (20, 28, 1), 5]
ADJACENT = [3, (16, 16, 1), (16, 16, 2), 4, (10, 20, 3), 6]
FOUR_IMAGES = [(16, 16, 5), 1, (16, 16, 6), (16, 16, 7), 2, (16, 16, 8), 3]
A, B, C = (24, 24, 1), (8, 24, 2), (24, 16, 3)  # of Idefics2, whose images of any size take as many tokens
FAMILIES = {
    "llava_onevision": TinyFamily(
        tiny_llava_onevision,
        tiny_processor,
        prompt_batch,
        [TILED, ADJACENT, [7], FOUR_IMAGES],
        lambda model, images: tokens_of(model, images, len(images) == 1),
    ),
    **{name: qwen(name) for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")},
    "idefics2": TinyFamily(
        tiny_idefics2,
        idefics2_processor,
        idefics2_batch,
        [[4, A, 5], [3, B, C, 4, A, 6], [7], [C, 1, B, 3]],
        lambda _, images: [LATENTS] * len(images),
    ),
    "mantis": TinyFamily(
        tiny_mantis,
        mantis_processor,
        mantis_batch,
        [[4, (1,), 5], [3, (2,), (3,), 4, (4,), 6], [7], [(5,), 1, (6,), 3]],
        lambda _, images: [IMAGE_SIZE] * len(images),
    ),
    "internvl3": internvl("qwen2"),
    "internvl3-qwen3": internvl("qwen3"),
    **{name: idefics3(name) for name in ("idefics3", "smolvlm2")},
}
FAMILIES["llava_1_5"] = replace(
    FAMILIES["mantis"],
    model=tiny_llava_1_5,
    processor=llava_1_5_processor,
    batch=llava_1_5_batch,
    tokens=lambda _, images: [LLAVA_SIZE] * len(images),
)
FAMILIES["gemma3"] = replace(
    FAMILIES["mantis"],
    model=tiny_gemma3,
    processor=gemma3_processor,
    batch=gemma3_batch,
    tokens=lambda _, images: [GEMMA_SIZE] * len(images),
)
FAMILIES["llava_next"] = TinyFamily(  # every image is tiled, among others too
    tiny_llava_next, llava_next_processor, llava_next_batch, [TILED, ADJACENT, [7], FOUR_IMAGES], llava_next_tokens
)
FAMILIES["idefics2-window"] = replace(  # wider than the prompts, as in the real checkpoint
    FAMILIES["idefics2"], model=lambda **k: tiny_idefics2(text={"sliding_window": 4096}, **k)
)


def tiny(family="llava_onevision", **options):
    """The family's model and a batch of its four samples, of different lengths, with none to four images."""
    kind = FAMILIES[family]
    model = kind.model(**options)
    return model, kind.batch(model, kind.samples, seed=7)


# What decoders differ in: a method must do right by one of each. The second has M-RoPE in three ways, and DeepStack.
KINDS = (
    [name for name in FAMILIES if not name.startswith("qwen") and name not in ("gemma3", "idefics2-window")],
    ["qwen3_vl", "qwen2_vl", "qwen2_5_vl"],
    ["gemma3", "idefics2-window"],  # sliding windows
)


def covering(names, families=FAMILIES, fits=lambda family, name: True, each=3):
    """Parameters `family, name`: every pair that fits, all of them marked slow but a few that cover.

    Those are each name with one family of each kind, in turn, or of only `each` kinds; and each family with one name.
    """
    names, few = list(names), set()
    for at, name in enumerate(names):
        for kind in (KINDS * 2)[at % len(KINDS) :][:each]:
            among = [family for family in kind if family in families and fits(family, name)]
            few |= {(among[at % len(among)], name)} if among else set()
    for at, family in enumerate(families):
        own = [name for name in names if fits(family, name)]
        few |= set() if any(one == family for one, _ in few) or not own else {(family, own[at % len(own)])}
    return [
        pytest.param(family, name, marks=() if (family, name) in few else pytest.mark.slow, id=f"{family}-{name}")
        for family in families
        for name in names
        if fits(family, name)
    ]


def each_kind(start, families=FAMILIES):
    """Parameters `family`: all of them marked slow but one of each of `KINDS`; other starts give others."""
    few = {among[start % len(among)] for kind in KINDS if (among := [one for one in kind if one in families])}
    return [pytest.param(family, marks=() if family in few else pytest.mark.slow) for family in families]
