"""A small model and a prompt with three images."""

import pytest

from tests.factories import SAMPLES, prompt_batch, tiny_llava_onevision


@pytest.fixture
def small():
    model = tiny_llava_onevision(layers=4)
    return model, prompt_batch(model, SAMPLES)
