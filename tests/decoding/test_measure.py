"""The clock counts steps and splits time at the first token."""

import time

from plphp_core.decoding.measure import StepClock
from tests.factories import prompt_batch, tiny_llava_onevision


def test_clock_splits_prefill_from_decode_and_stops_nothing():
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, [[3, (16, 16, 1), 2]])
    model.model.vision_tower.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    clock = StepClock()
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=None, stopping_criteria=[clock])
    assert out.shape[1] == inputs["input_ids"].shape[1] + 6
    assert clock.decode_steps == 5
    assert clock.prefill_ms >= 50
    assert 0 < clock.decode_ms < 1e4
