"""The oracle keeps what the answer is about, at the bytes of any other budgeted method, and knows the toy only."""

import pytest
import torch

from baselines import Oracle, SnapKV
from plphp_core import prune
from plphp_core.evaluation.encoding import pixels_sha256, sample_key
from plphp_core.pruning.prompt import sample_keys
from tasks.toy.generate import SEED, image_seed, test_samples
from tasks.toy.known import SPOTS_PER_SIDE, token_spots
from tasks.toy.prompts import context
from tasks.toy.scenes import draw
from tasks.toy.toy import get_toy


@pytest.fixture(scope="module", params=["llava_onevision", "qwen2_vl"])
def toy(request):
    found = get_toy(request.param)
    model, processor = found.build_model(0)
    return found, model.eval(), processor


def prefill(toy, benchmark, rows, method):
    """The trace of a batch of test samples, named as a run names them, and the samples."""
    family, model, processor = toy[0].family, toy[1], toy[2]
    samples = test_samples(benchmark)
    drawn = [[draw(s, image_seed(SEED, benchmark, row, i)) for i, s in enumerate(samples[row].scenes)] for row in rows]
    images = [family.images(one) for one in drawn]
    prompts = [family.prompt(context(samples[row]), len(one)) for row, one in zip(rows, images, strict=True)]
    keys = [sample_key(prompt, map(pixels_sha256, one)) for prompt, one in zip(prompts, images, strict=True)]
    with torch.no_grad(), prune(model, method) as trace, sample_keys(keys):
        model(**family.encode(processor, prompts, images))
    return trace, [samples[row] for row in rows]


@pytest.mark.parametrize("benchmark", ["finding", "ie", "mv"])
def test_what_the_answer_is_about_stays_in_every_layer_and_head(toy, benchmark):
    trace, samples = prefill(toy, benchmark, [3, 4], Oracle(budget=0.2))
    for row, sample in enumerate(samples):
        for layer in trace.kept:
            for head in layer[row]:
                for image, about in zip(trace.images[row], sample.about, strict=True):
                    spots = torch.from_numpy(token_spots(len(image)))[torch.isin(image, head.cpu())].tolist()
                    assert {r * SPOTS_PER_SIDE + c for r, c in about} <= set(spots)


def test_bytes_are_those_of_any_method_at_this_budget(toy):
    ours, _ = prefill(toy, "long", [0, 1], Oracle(budget=0.2))
    theirs, _ = prefill(toy, "long", [0, 1], SnapKV(budget=0.2))
    assert ours.kv_bytes_alone == theirs.kv_bytes_alone < ours.kv_bytes_full_alone


def test_a_sample_that_the_toy_did_not_draw_is_refused(toy):
    found, model, processor = toy
    sample = test_samples("finding")[0]
    images = [found.family.images([draw(sample.scenes[0], 7)])]
    inputs = found.family.encode(processor, [found.family.prompt(context(sample), 1)], images)
    with pytest.raises(ValueError, match="toy's test samples only"), prune(model, Oracle()):
        model(**inputs)


def test_token_spots_of_sizes_that_no_toy_has_are_refused():
    assert token_spots(37)[-1] == -1 and (token_spots(192)[36:48] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]).all()
    with pytest.raises(ValueError, match="36, 37, 192"):
        token_spots(729)
