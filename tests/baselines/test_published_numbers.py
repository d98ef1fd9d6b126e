"""FastV and VTW against numbers their papers and the paper publish."""

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import prune
from plphp_core.decoding.measure import layer_flops
from tests.factories import prompt_batch, tiny_llava_onevision

FOUR_IMAGES = [2, (16, 16, 1), (16, 16, 2), 1, (16, 16, 3), (16, 16, 4), 3]  # 4 · 17 = 68 tokens, a multiple of 4

RETENTION = {  # per cent, averaged over layers
    28: {
        FastV(2, 0.75): 30.36,
        FastV(3, 0.5): 55.36,
        FastV(3, 0.25): 77.68,
        VTW(10): 35.71,
        VTW(14): 50.0,
        VTW(20): 71.43,
    },
    32: {
        FastV(2, 0.75): 29.69,
        FastV(3, 0.5): 54.69,
        FastV(3, 0.25): 77.34,
        VTW(10): 31.25,
        VTW(14): 43.75,
        VTW(20): 62.5,
    },
}


@pytest.mark.parametrize("layers", RETENTION)
def test_measured_retention_is_the_published_one(layers):
    model = tiny_llava_onevision(layers, head_dim=4)
    inputs = prompt_batch(model, [FOUR_IMAGES])
    for method, expected in RETENTION[layers].items():
        with torch.no_grad(), prune(model, method) as trace:
            model(**inputs)
        assert 100 * trace.retention.mean().item() == pytest.approx(expected, abs=0.005), method


@pytest.mark.parametrize(
    "K, R, expected", [(40, 0.0, 154.64), (2, 0.75, 50.18), (2, 0.5, 84.60), (3, 0.5, 86.44), (5, 0.5, 90.13)]
)
def test_flops_are_fastvs_table_1(K, R, expected):
    layers, text, image, hidden, intermediate = 40, 36, 576, 5120, 13824
    lengths = [text + image] * K + [text + round(image * (1 - R))] * (layers - K)
    mean = sum(layer_flops(n, hidden, intermediate) for n in lengths) / layers
    assert mean / 1e9 == pytest.approx(expected, abs=0.05)
