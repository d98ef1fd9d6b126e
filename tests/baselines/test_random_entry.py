"""Random tokens at the entry of a layer: as many of each image as asked, the same wherever they enter."""

import pytest
import torch

from baselines import RandomEntry
from plphp_core import prune
from plphp_core.pruning.prompt import sample_keys
from tests.baselines.rivals import ONE_IMAGE
from tests.factories import prompt_batch, tiny_llava_onevision

PROMPTS = [[4, (20, 28, 1), 5], [6, (16, 16, 2), 3, (20, 12, 1), 8]]  # one image; two, in a longer prompt


@torch.no_grad()
def entered(method, model, prompts, layer, keys=None):
    """Per sample and image, the places within the image that entered a layer; and the logits."""
    batch = prompt_batch(model, prompts)
    with sample_keys(keys or [str(one) for one in prompts]), prune(model, method) as trace:
        logits = model(**batch).logits[:, -1]
    found = []
    for sample, images in enumerate(trace.images):
        tokens = set(trace.kept[layer][sample][0].tolist())
        found.append([{at for at, place in enumerate(image.tolist()) if place in tokens} for image in images])
    return found, logits, trace


def test_of_each_image_as_many_as_asked_and_the_same_at_every_layer_and_in_every_batch():
    model = tiny_llava_onevision()
    first, _, trace = entered(RandomEntry(ratio=0.4), model, PROMPTS, 0)
    sizes = trace.prompt.image_sizes
    assert [[len(one) for one in images] for images in first] == [[round(0.4 * n) for n in own] for own in sizes]
    assert trace.vision_entered == [sum(round(0.4 * n) for n in own) for own in sizes]
    later, _, trace = entered(RandomEntry(K=3, ratio=0.4), model, PROMPTS, 3)
    layers = len(trace.layers)
    assert later == first
    assert trace.vision_entered == [
        (3 * sum(own) + (layers - 3) * sum(round(0.4 * n) for n in own)) / layers for own in sizes
    ]
    for at, prompt in enumerate(PROMPTS):
        assert entered(RandomEntry(ratio=0.4), model, [prompt], 0)[0] == first[at : at + 1]


def test_fewer_are_among_more_and_another_seed_or_sample_is_another_choice():
    model = tiny_llava_onevision()
    more, fewer = (entered(RandomEntry(tokens=tokens), model, PROMPTS, 0)[0] for tokens in (9, 4))
    assert all(a < b for few, many in zip(fewer, more, strict=True) for a, b in zip(few, many, strict=True))
    assert entered(RandomEntry(tokens=9, seed=1), model, PROMPTS, 0)[0] != more
    assert entered(RandomEntry(tokens=9), model, PROMPTS, 0, keys=["another", "one"])[0] != more


def test_everything_is_no_method():
    model = tiny_llava_onevision()
    for K in (0, 2):
        whole = entered(RandomEntry(K=K, tokens=9999), model, ONE_IMAGE, 0)[1]
        assert torch.equal(whole, entered(None, model, ONE_IMAGE, 0)[1])


@pytest.mark.parametrize("wrong", [{"K": -1}, {"K": 1.5}, {"ratio": 1.5}, {"tokens": 0}, {"tokens": 2.0}])
def test_what_is_not_allowed_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"RandomEntry: {name} = "):
        RandomEntry(**wrong)


def test_a_layer_that_is_not_there():
    model = tiny_llava_onevision()
    with pytest.raises(ValueError, match="RandomEntry: K = 99"), prune(model, RandomEntry(K=99)):
        pass
