"""What holds for every family: marks in prompts, which tokens belong to which image, beams."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.families import family_names, get_family
from plphp_core.families.qwen2_vl import resized
from tests.examples import examples
from tests.families.gemma3_factory import IMAGE_SIZE as GEMMA_SIZE
from tests.families.idefics2_factory import LATENTS
from tests.families.idefics3_factory import CROP_TOKENS, idefics3_processor
from tests.families.internvl_factory import TILE_TOKENS, internvl_processor
from tests.families.llava_factory import IMAGE_SIZE as LLAVA_SIZE
from tests.families.mantis_factory import IMAGE_SIZE
from tests.families.pictures import picture, positions, spans
from tests.families.qwen_factory import GENERATIONS, SIDE
from tests.families.tiny_models import FAMILIES, tiny


def qwen_tokens(width, height):
    height, width = resized(height, width, SIDE, SIDE**2, 4096)
    return (width // SIDE) * (height // SIDE)


def internvl_tokens(width, height, alone):
    tiles = internvl_processor().image_processor.get_number_of_image_patches(height, width, {"crop_to_patches": True})
    return TILE_TOKENS * tiles


def idefics3_tokens(width, height, alone):
    return CROP_TOKENS * idefics3_processor().image_processor.get_number_of_image_patches(height, width, {})[0]


# Options of model and processor, and the tokens of an image; None: known only by the image tokens written
TOKENS = {
    ("llava_onevision", ()): lambda width, height, alone: None if alone else 17,
    **{(name, ()): lambda width, height, alone: qwen_tokens(width, height) for name in GENERATIONS},
    ("idefics2", (("splitting", False),)): lambda *_: LATENTS,
    ("idefics2", (("splitting", True),)): lambda *_: 5 * LATENTS,
    ("mantis", (("strategy", "default"),)): lambda *_: IMAGE_SIZE,
    ("mantis", (("strategy", "full"),)): lambda *_: IMAGE_SIZE + 1,
    **{(name, ()): idefics3_tokens for name in ("idefics3", "smolvlm2")},
    **{("internvl3", (("decoder", name),)): internvl_tokens for name in ("qwen2", "qwen3")},
    ("llava_next", ()): lambda *_: None,
    ("gemma3", ()): lambda *_: GEMMA_SIZE,
    **{("llava_1_5", (("pad", pad),)): lambda *_: LLAVA_SIZE for pad in (True, False)},
}


def count(sample):
    return sum(not isinstance(part, int) for part in sample)


@pytest.mark.parametrize("style", ["lmms_eval", "plain"])
@pytest.mark.parametrize("name", family_names())
def test_marks_and_images_must_agree(name, style):
    for marks, images in ((1, 3), (3, 2), (1, 0), (2, 1)):
        with pytest.raises(ValueError, match=f"marks {marks} images with <image>, but there are {images}"):
            get_family(name, style).prompt("look" + " <image>" * marks, images)


@pytest.mark.parametrize("kind", TOKENS, ids=str)
@given(
    samples=st.lists(st.lists(st.tuples(*[st.integers(6, 70)] * 2), max_size=3), min_size=1, max_size=3),
    between=st.sampled_from(["", " ", " w5 "]),
    style=st.sampled_from(["lmms_eval", "plain"]),
)
@examples(10)
def test_spans_cover_exactly_the_image_tokens_that_the_processor_wrote(kind, samples, between, style):
    """Images side by side or not, samples with fewer than the batch's most or none; generate() and a plain forward."""
    (name, options), family = kind, get_family(kind[0], style)
    model = FAMILIES[name].model(layers=4, **dict(options))
    processor = FAMILIES[name].processor(**dict(options))
    images = [[picture(*size, j) for j, size in enumerate(sizes)] for sizes in samples]
    prompts = [family.prompt("w1 " + between.join(["<image>"] * len(own)) + " w2", len(own)) for own in images]
    inputs = family.encode(processor, prompts, images)
    for call in ("generate", "forward"):
        found = spans(model, inputs, call)
        flat = [[token for image in sample for token in image] for sample in found]
        assert flat == positions(inputs["input_ids"], family.image_token_id(model))
        for sizes, sample in zip(samples, found, strict=True):
            assert len(sample) == len(sizes)
            for size, image in zip(sizes, sample, strict=True):
                assert TOKENS[kind](*size, len(sizes) == 1) in (None, len(image))


@pytest.mark.parametrize("name", FAMILIES)
def test_beams_repeat_the_images_of_their_sample(name):
    model, inputs = tiny(name, layers=4)
    alone = spans(model, inputs)
    assert [len(sample) for sample in alone] == [count(sample) for sample in FAMILIES[name].samples]
    assert spans(model, inputs, num_beams=2) == [sample for sample in alone for _ in range(2)]


@pytest.mark.parametrize("name", family_names())
def test_plain_strips_answers_and_upstream_does_with_them_what_its_wrapper_does(name):
    """The word-level tokenizers have no blank lines; this one says what it is told."""
    raw = " A cat.\n\nIt sleeps. "
    processor = SimpleNamespace(tokenizer=SimpleNamespace(eos_token="</s>", decode=lambda ids, **_: raw))
    upstream = {"llava_onevision": raw.strip(), "qwen2_vl": "A cat."}
    options = {"until": ["\n\n"]}
    assert get_family(name).decode(processor, torch.tensor([1]), options) == upstream.get(name, raw)
    assert get_family(name, "plain").decode(processor, torch.tensor([1]), options | {"until": ["cat"]}) == raw.strip()
