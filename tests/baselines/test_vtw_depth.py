"""The rule that chooses VTW's K, against scipy and the masked reference."""

import pytest
import torch
from scipy.stats import entropy

from baselines.vtw_depth import choose_k, divergences
from tests import reference
from tests.factories import prompt_batch, tiny_llava_onevision

SAMPLES = [[3, (16, 16, 1), (16, 16, 2), 4], [2, (16, 16, 3), (16, 16, 4), 5]]


def test_divergence_is_the_mean_kl_of_withdrawn_to_full():
    model = tiny_llava_onevision(layers=6)
    samples = [prompt_batch(model, [sample]) for sample in SAMPLES]
    found = divergences(model, samples, first=2)
    assert sorted(found) == [2, 3, 4, 5]
    for K in found:
        expected = []
        for inputs in samples:
            ref = reference.Reference(model, inputs, [17, 17])
            _, full = ref.generate(1, reference.Reference.nothing)
            _, withdrawn = ref.generate(1, reference.vtw(K))
            expected.append(entropy(withdrawn[0].softmax(-1).numpy(), full[0].softmax(-1).numpy()))
        assert found[K] == pytest.approx(sum(expected) / 2, rel=1e-3, abs=1e-6)


def test_the_first_depth_under_the_threshold_wins():
    assert choose_k({5: 0.02, 6: 0.002, 7: 0.004, 8: 0.001}, eta=0.003) == 6
    assert choose_k({5: 0.02}, eta=0.003) is None


def test_no_samples_and_depths_beyond_the_model_are_refused():
    model = tiny_llava_onevision(layers=6)
    with pytest.raises(ValueError, match="no samples"):
        divergences(model, [])
    with pytest.raises(ValueError, match="the model has 6 layers"):
        divergences(model, [prompt_batch(model, SAMPLES[:1])], first=6)
    assert torch.is_grad_enabled()
