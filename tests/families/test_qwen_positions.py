"""M-RoPE over a pruned cache: positions of the prompt, of decoding and of later turns, one conversation or several."""

import copy
import inspect

import pytest
import torch
from transformers import DynamicCache, Qwen2VLForConditionalGeneration

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from tests.families.qwen_factory import GENERATIONS, IMAGE_TOKEN, WORDS, qwen_batch, tiny_qwen
from tests.families.tiny_models import covering

SAMPLES = [[4, (3, 5, 1), 5], [3, (2, 2, 1), (4, 2, 2), 4, (1, 3, 3), 6], [7]]
METHODS = [None, PLPHP(alpha=0.5, beta=0.3), FastV(4, 0.5), VTW(4)]
ENCODES_FIRST = "mm_encoder_outputs" in inspect.signature(Qwen2VLForConditionalGeneration.forward).parameters
GREEDY = {"do_sample": False, "eos_token_id": None, "return_dict_in_generate": True, "output_logits": True}


def positions_of(sample):
    """Time, height and width of every token, and the next free position, from the Qwen2-VL paper's rule (§ 2.1).

    Text counts up on all three axes; an image stands still in time and spans its rows and columns; what follows goes on
    behind the largest position. Start and end tokens are text.
    """
    found, free = [], 0
    for part in sample:
        if isinstance(part, int):
            found += [(free + i,) * 3 for i in range(part)]
            free += part
            continue
        rows, columns, _ = part
        found.append((free,) * 3)
        found += [(free + 1, free + 1 + row, free + 1 + column) for row in range(rows) for column in range(columns)]
        free += 1 + max(rows, columns)
        found.append((free,) * 3)
        free += 1
    return found, free


def heard_positions(model, call):
    """What the rotary tables were made of, per forward: `(3, batch, tokens)`."""
    heard = []
    rotary = model.model.language_model.rotary_emb
    handle = rotary.register_forward_pre_hook(
        lambda _, args, kwargs: heard.append(args[1].expand(3, -1, -1)), with_kwargs=True
    )
    result = call()
    handle.remove()
    return heard, result


def first_turn(model, inputs, steps=3):
    return model.generate(**inputs, max_new_tokens=steps, **GREEDY)


def question(count, length=5, seed=0):
    return torch.randint(0, WORDS, (count, length), generator=torch.Generator().manual_seed(seed))


def longer(mask, tokens):
    """The attention mask with ones behind it, up to `tokens`."""
    return torch.cat([mask, mask.new_ones(len(mask), tokens - mask.shape[1])], 1)


@pytest.mark.parametrize("name, method", covering(METHODS, GENERATIONS))
def test_positions_of_prompt_decoding_and_second_turn_follow_the_papers_rule(name, method):
    model = tiny_qwen(name)
    inputs = qwen_batch(model, SAMPLES)
    with prune(model, method):
        heard, turn = heard_positions(model, lambda: first_turn(model, inputs))
        ids = torch.cat([turn.sequences, question(3)], 1)
        mask, seen = longer(inputs["attention_mask"], ids.shape[1]), turn.past_key_values.get_seq_length()
        again = {"input_ids": ids, "attention_mask": mask, "past_key_values": turn.past_key_values}
        later, _ = heard_positions(model, lambda: model.generate(**again, max_new_tokens=2, **GREEDY))
    prompt, steps = heard[0], torch.cat(heard[1:], -1)
    assert [one.shape[-1] for one in later] == [ids.shape[1] - seen, 1]
    later = torch.cat(later, -1)
    for row, sample in enumerate(SAMPLES):
        expected, free = positions_of(sample)
        own = inputs["attention_mask"][row].bool()
        assert prompt[:, row, own].T.tolist() == [list(one) for one in expected]
        assert steps[:, row].T.tolist() == [[free + i] * 3 for i in range(steps.shape[-1])]
        start = free + seen - inputs["input_ids"].shape[1]
        assert later[:, row].T.tolist() == [[start + i] * 3 for i in range(later.shape[-1])]


@pytest.mark.parametrize("name, method", covering(METHODS, GENERATIONS))
def test_second_turn_equals_feeding_its_tokens_one_by_one_at_given_positions(name, method):
    """By generate() on a padded batch; without padding by a plain forward too, which in transformers takes no mask."""
    model = tiny_qwen(name)
    for samples in (SAMPLES, SAMPLES[:1]):
        inputs = qwen_batch(model, samples)
        with torch.no_grad(), prune(model, method):
            turn = first_turn(model, inputs)
            cache, ids = turn.past_key_values, torch.cat([turn.sequences, question(len(samples))], 1)
            seen, mask = cache.get_seq_length(), longer(inputs["attention_mask"], ids.shape[1])
            options = {"attention_mask": mask, "max_new_tokens": 1, **GREEDY}
            generated = model.generate(ids, past_key_values=copy.deepcopy(cache), **options).logits[0]
            plain = model(ids[:, seen:], past_key_values=copy.deepcopy(cache)).logits if len(samples) == 1 else None
            free = torch.tensor([positions_of(sample)[1] for sample in samples]) + seen - inputs["input_ids"].shape[1]
            for i in range(ids.shape[1] - seen):
                one = model(
                    ids[:, seen + i : seen + i + 1],
                    attention_mask=mask[:, : seen + i + 1],
                    position_ids=(free + i)[None, :, None].expand(3, -1, -1),
                    past_key_values=cache,
                ).logits
                if plain is not None:
                    torch.testing.assert_close(plain[:, i], one[:, 0], atol=3e-5, rtol=1e-4)
            torch.testing.assert_close(generated, one[:, 0], atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("name, method", covering([None, PLPHP(r=1.0, delta_r=0.0)], GENERATIONS))
def test_second_turn_with_nothing_pruned_equals_reading_the_conversation_afresh(name, method):
    model = tiny_qwen(name)
    inputs = qwen_batch(model, SAMPLES)
    with torch.no_grad(), prune(model, method):
        turn = first_turn(model, inputs)
        ids = torch.cat([turn.sequences, question(3)], 1)
        mask = longer(inputs["attention_mask"], ids.shape[1])
        later = model.generate(
            ids, attention_mask=mask, past_key_values=turn.past_key_values, max_new_tokens=1, **GREEDY
        ).logits[0]
    shown = torch.zeros_like(ids)
    shown[:, : inputs["input_ids"].shape[1]] = inputs["mm_token_type_ids"]
    afresh = {**inputs, "input_ids": ids, "attention_mask": mask, "mm_token_type_ids": shown}
    with torch.no_grad():
        torch.testing.assert_close(later, model(**afresh, use_cache=False).logits[:, -1], atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("copied", [False, True], ids=["same", "copied"])
@pytest.mark.parametrize("way", ["generate", "forward"])
@pytest.mark.parametrize("name, method", covering(METHODS[:2], GENERATIONS))
def test_conversations_in_turns_on_one_model_leave_each_other_alone(name, method, way, copied):
    """The model object holds the distance of positions and tokens of one conversation only, the latest."""
    model = tiny_qwen(name)
    others = [
        qwen_batch(model, [[2, (4, 4, 1), (5, 2, 7), 3]], seed=5),
        qwen_batch(model, [[6]]),
        qwen_batch(model, SAMPLES),
    ]
    inputs, more = qwen_batch(model, SAMPLES[:1]), question(1)

    def go_on(turn):
        cache, ids = turn.past_key_values, torch.cat([turn.sequences, more], 1)
        cache = copy.deepcopy(cache) if copied else cache
        if way == "generate":
            return torch.cat(model.generate(ids, past_key_values=cache, max_new_tokens=3, **GREEDY).logits)
        return model(ids[:, cache.get_seq_length() :], past_key_values=cache).logits

    with torch.no_grad(), prune(model, method):
        alone = go_on(first_turn(model, inputs))
        turns = [first_turn(model, inputs)]
        for other in others:
            turns.append(first_turn(model, other))
            model(**other)
        disturbed = go_on(turns[0])
        assert torch.equal(disturbed, alone)


@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_a_text_conversation_by_plain_forwards_owes_nothing_to_the_images_before_it(method):
    model = tiny_qwen()
    text = qwen_batch(model, [[9]])["input_ids"]
    with torch.no_grad():
        expected = model(text, use_cache=False).logits[:, 6:]
    with torch.no_grad(), prune(model, method):
        first_turn(model, qwen_batch(model, SAMPLES))
        for cache in (None, DynamicCache(config=model.config)):
            cache = model(text[:, :6], past_key_values=cache).past_key_values
            found = model(text[:, 6:], past_key_values=cache).logits
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
            first_turn(model, qwen_batch(model, SAMPLES))


@pytest.mark.skipif(not ENCODES_FIRST, reason="this transformers reads no new images on top of a cache")
def test_new_images_in_a_later_turn_without_pruning_count_in_the_turn_after_it():
    """Only transformers itself goes on with new images; within a block of None that must stay as it is."""
    model = tiny_qwen()
    inputs, second = qwen_batch(model, SAMPLES[:1]), qwen_batch(model, [[2, (5, 2, 9), 3]], seed=3)
    other = qwen_batch(model, SAMPLES)

    def talk(between):
        turn = first_turn(model, inputs)
        ids = torch.cat([turn.sequences, second["input_ids"]], 1)
        shown = {
            "mm_token_type_ids": (ids == IMAGE_TOKEN).long(),
            "image_grid_thw": torch.cat([inputs["image_grid_thw"], second["image_grid_thw"]]),
        }
        features = model.model.get_image_features(second["pixel_values"], second["image_grid_thw"], return_dict=True)
        turn = model.generate(
            ids,
            past_key_values=turn.past_key_values,
            mm_encoder_outputs={"image": features},
            max_new_tokens=3,
            **shown,
            **GREEDY,
        )
        between()
        ids = torch.cat([turn.sequences, question(1)], 1)
        return model.generate(ids, past_key_values=turn.past_key_values, max_new_tokens=1, **GREEDY).logits[0]

    with torch.no_grad():
        plain = talk(lambda: None)
        with prune(model, None):
            assert torch.equal(talk(lambda: first_turn(model, other)), plain)
