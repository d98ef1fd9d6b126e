"""A conversation goes on over a pruned cache as it would over a full one with the dropped slots masked."""

import copy

import pytest
import torch

from baselines import VTW, FastV, PyramidDrop
from plphp_core import PLPHP, prune
from tests.factories import prompt_batch, tiny_llava_onevision

METHODS = [PLPHP(alpha=0.8, beta=0.6), FastV(2, 0.5), VTW(3), PyramidDrop((2, 5), (0.5, 0.2), positions="compact")]
SAMPLES = [[4, (20, 28, 1), 5], [3, (16, 16, 1), (16, 16, 2), 4, (10, 20, 3), 6]]


def first_turn(model, inputs, steps=3):
    return model.generate(
        **inputs, max_new_tokens=steps, do_sample=False, eos_token_id=None, return_dict_in_generate=True
    )


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(
    "attention, samples",
    [("sdpa", SAMPLES), ("sdpa", SAMPLES[:1]), ("eager", SAMPLES)],
    ids=["batch", "single", "eager"],
)
def test_second_turn_equals_feeding_its_tokens_one_by_one(method, attention, samples):
    """A turn of several tokens needs a rectangular mask over slots; single steps don't. Both must agree."""
    model = tiny_llava_onevision(attention=attention)
    inputs = prompt_batch(model, samples)
    question = torch.randint(0, 90, (len(samples), 6))
    with prune(model, method):
        turn = first_turn(model, inputs)
        cache, mask = turn.past_key_values, inputs["attention_mask"]
        seen = cache.get_seq_length()
        stepped = copy.deepcopy(cache)
        ids = torch.cat([turn.sequences[:, seen:], question], 1)
        mask = torch.cat([mask, torch.ones(len(samples), seen - mask.shape[1] + ids.shape[1], dtype=mask.dtype)], 1)
        positions = (mask.cumsum(1) - 1)[:, seen:]
        at_once = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache).logits
        for i in range(ids.shape[1]):
            one = model(
                input_ids=ids[:, i : i + 1],
                attention_mask=mask[:, : seen + i + 1],
                position_ids=positions[:, i : i + 1],
                past_key_values=stepped,
            ).logits
            torch.testing.assert_close(at_once[:, i], one[:, 0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_generate_goes_on_with_the_whole_conversation_as_input_ids(method):
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES[:1])
    with prune(model, method) as trace:
        turn = first_turn(model, inputs)
        kept = trace.kept
        ids = torch.cat([turn.sequences, torch.randint(0, 90, (1, 5))], 1)
        by_hand = copy.deepcopy(turn.past_key_values)
        out = model.generate(
            input_ids=ids, past_key_values=turn.past_key_values, max_new_tokens=4, do_sample=False, eos_token_id=None
        )
        assert trace.kept is kept  # the trace still describes the prefill of the images
        expected, step = [], ids[:, by_hand.get_seq_length() :]
        for _ in range(4):
            expected.append(int(model(input_ids=step, past_key_values=by_hand).logits[0, -1].argmax()))
            step = torch.tensor([expected[-1:]])
    assert out[0, ids.shape[1] :].tolist() == expected


@pytest.mark.parametrize("method", [METHODS[0], METHODS[-1]], ids=str)
def test_crop_rewinds_generated_tokens_and_refuses_to_bring_back_pruned_ones(method):
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES[:1])
    with prune(model, method):
        cache = first_turn(model, inputs, steps=5).past_key_values
        before = copy.deepcopy(cache)
        token = torch.tensor([[3]])
        expected = model(input_ids=token, past_key_values=cache).logits
        cache.crop(-1)
        assert torch.equal(model(input_ids=token, past_key_values=cache).logits, expected)
        assert cache.get_seq_length() == before.get_seq_length() + 1
        with pytest.raises(ValueError, match="pruned vision tokens"):
            cache.crop(-20)


def test_new_images_on_a_filled_cache_are_refused():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES[:1])
    with prune(model, METHODS[0]):
        cache = first_turn(model, inputs).past_key_values
        second = prompt_batch(model, SAMPLES[:1])
        second.pop("attention_mask")
        with pytest.raises(ValueError, match="prefill the whole conversation"):
            model(**second, past_key_values=cache)
