"""Hooks come off, nothing is shared between models and threads, and what cannot work is refused by name."""

import copy
import threading

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, make_method, prune
from tests.factories import METHOD, SAMPLES, greedy, prompt_batch, tiny_llava_onevision


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_come_off_after_an_exception_in_the_block_and_inside_a_layer():
    model = tiny_llava_onevision()
    inputs, before = prompt_batch(model, SAMPLES), hooks_of(model)
    plain = greedy(model, inputs)
    with pytest.raises(RuntimeError, match="mine"), prune(model, METHOD):
        raise RuntimeError("mine")
    broken = model.model.language_model.layers[4].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), prune(model, METHOD):
        greedy(model, inputs)
    broken.remove()
    assert hooks_of(model) == before and "generate" not in vars(model)
    assert greedy(model, inputs) == plain


def test_a_failed_prefill_leaves_no_trace_in_the_next():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, METHOD):
        expected = greedy(model, inputs)
    with prune(model, METHOD):
        broken = model.model.language_model.layers[4].mlp.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            greedy(model, inputs)
        broken.remove()
        assert greedy(model, inputs) == expected


def test_blocks_nest_the_innermost_acts_and_the_outer_resumes():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    alone = {}
    for method in (METHOD, VTW(3), None):
        with prune(model, method):
            alone[method] = greedy(model, inputs)
    with prune(model, METHOD) as outer:
        assert greedy(model, inputs) == alone[METHOD]
        kept = outer.kept
        with prune(model, VTW(3)) as inner:
            assert greedy(model, inputs) == alone[VTW(3)]
            assert inner.retention[0, 4] == 0
        assert outer.kept is kept
        with prune(model, None):
            assert greedy(model, inputs) == alone[None]
        assert greedy(model, inputs) == alone[METHOD]


def test_two_models_do_not_share_state():
    one, two = tiny_llava_onevision(seed=1), tiny_llava_onevision(seed=2, layers=6)
    a, b = prompt_batch(one, SAMPLES), prompt_batch(two, SAMPLES)
    with prune(one, METHOD):
        expected_one = greedy(one, a)
    with prune(two, VTW(2)):
        expected_two = greedy(two, b)
    with prune(one, METHOD) as t1, prune(two, VTW(2)) as t2:
        assert greedy(one, a) == expected_one
        assert greedy(two, b) == expected_two
        assert (t1.retention.shape, t2.retention.shape) == ((1, 8), (1, 6))


def test_threads_with_blocks_of_their_own_on_one_model_do_not_mix():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    methods = [METHOD, FastV(2, 0.5), VTW(3), None]
    expected = []
    for method in methods:
        with prune(model, method):
            expected.append(greedy(model, inputs))
    barrier, found = threading.Barrier(len(methods)), [None] * len(methods)

    def work(i):
        with prune(model, methods[i]):
            barrier.wait()
            found[i] = [greedy(model, inputs) for _ in range(4)]
            barrier.wait()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(methods))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[tokens] * 4 for tokens in expected]


def test_blocks_that_other_threads_open_and_close_meanwhile_do_no_harm():
    model = tiny_llava_onevision(layers=4)
    inputs, stop = prompt_batch(model, SAMPLES), threading.Event()
    with prune(model, METHOD):
        expected = greedy(model, inputs)

    def churn():
        while not stop.is_set():
            with prune(model, METHOD):
                pass

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            with prune(model, METHOD):
                assert greedy(model, inputs) == expected
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PLPHP(alpha=0.1, beta=0.2), "beta ≤ alpha"),
        (lambda: PLPHP(r=0.2, delta_r=0.3), "delta_r ≤ r"),
        (lambda: PLPHP(r=0.8, delta_r=0.3), "r ≤ 1 − delta_r"),
        (lambda: PLPHP(r=1.2, delta_r=0.0), r"r = 1.2, but must be a number in \[0, 1\]"),
        (lambda: PLPHP(beta=-0.1), r"beta = -0.1, but must be a number in \[0, 1\]"),
        (lambda: PLPHP(r=float("nan")), r"r = nan, but must be a number in"),
        (lambda: PLPHP(gqa="min"), "gqa = 'min', but must be one of mean, max"),
        (lambda: FastV(K=0), "must be a whole number from 1 on"),
        (lambda: FastV(K=2.5), "must be a whole number from 1 on"),
        (lambda: FastV(R=1.5), r"R = 1.5, but must be a number in \[0, 1\]"),
        (lambda: PLPHP(r="0.4"), "r = '0.4', but must be a number"),
        (lambda: FastV(K=True), "must be a whole number from 1 on"),
        (lambda: FastV(rows="first"), "rows = 'first', but must be one of last, all"),
        (lambda: VTW(K=0), "must be a whole number from 1 on"),
        (lambda: make_method("plhpp"), "known: none, adakv, .*fastv, .*plphp, .*vtw"),
        (lambda: make_method("fastv", k=3), "known: K, R, rows"),
        (lambda: make_method("none", r=0.4), "takes no parameters"),
    ],
)
def test_invalid_parameters_are_refused_with_value_and_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()
    for r, delta_r in ((0.7, 0.3), (0.5, 0.5), (0.9, 0.1), (0.6, 0.4)):  # their sum is 1, but for rounding
        PLPHP(r=r, delta_r=delta_r)


@pytest.mark.parametrize("method", [FastV(K=9), VTW(K=9)], ids=str)
def test_K_beyond_the_model_is_refused_before_any_hook(method):
    model = tiny_llava_onevision(layers=8)
    with pytest.raises(ValueError, match="the model has 8 layers"), prune(model, method):
        pass
    assert hooks_of(model) == 0


def test_unknown_model_class_lists_the_known_ones():
    known = r"Linear; known model classes: .*LlavaOnevisionForConditionalGeneration"
    with pytest.raises(TypeError, match=known), prune(torch.nn.Linear(2, 2), METHOD):
        pass


def test_a_string_is_no_method():
    with pytest.raises(TypeError, match="PLPHP\\(\\) or None"), prune(tiny_llava_onevision(), "plphp"):
        pass


@pytest.mark.parametrize(
    "options, name",
    [
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"prefill_chunk_size": 16}, "prefill_chunk_size"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"use_cache": False}, "use_cache"),
    ],
)
def test_generate_options_that_cannot_work_are_refused_by_name(options, name):
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, METHOD):
        with pytest.raises(ValueError, match=name):
            greedy(model, inputs, **options)
        assert len(greedy(model, inputs)[0]) == 5  # and the block still works


def test_assisted_decoding_is_refused_also_through_a_generation_config():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, METHOD), pytest.raises(ValueError, match="assistant_model"):
        model.generate(**inputs, assistant_model=model)
    config = model.generation_config.__class__(prompt_lookup_num_tokens=3)
    with prune(model, METHOD), pytest.raises(ValueError, match="prompt_lookup_num_tokens"):
        model.generate(**inputs, generation_config=config)


def test_calls_that_cannot_be_pruned_are_refused():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, METHOD):
        with pytest.raises(ValueError, match="without a KV cache, and this forward has none"):
            model(**inputs, use_cache=False)
        with pytest.raises(ValueError, match="leave inputs_embeds out"):
            model(inputs_embeds=torch.zeros(1, 4, 32))
        right = {
            **inputs,
            "attention_mask": torch.cat([torch.ones(1, 50), torch.zeros(1, inputs["input_ids"].shape[1] - 50)], 1),
        }
        with pytest.raises(ValueError, match="padding_side='left'"):
            model(**right)
        with pytest.raises(ValueError, match="image tokens"):
            model(
                input_ids=torch.tensor([[1, 90, 2]]),
                pixel_values=inputs["pixel_values"],
                image_sizes=inputs["image_sizes"],
                batch_num_images=inputs["batch_num_images"],
            )


@pytest.mark.parametrize("method", [METHOD, FastV(2, 0.5)], ids=str)
def test_a_sliding_window_is_refused_when_the_prompt_or_the_answer_reaches_it_and_harmless_before(method):
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    config, length = model.model.language_model.config, prompt_length(inputs)
    with prune(model, method):
        expected = greedy(model, inputs)
    config.layer_types = ["sliding_attention"] * 8
    model.model.language_model.has_sliding_layers = True
    for block in model.model.language_model.layers:
        block.self_attn.layer_type = "sliding_attention"
    for window, fits in ((length - 10, False), (length, False), (length + 2, False), (length + 4, True), (900, True)):
        config.sliding_window = window
        for block in model.model.language_model.layers:
            block.self_attn.sliding_window = window
        with prune(model, method):
            if fits:
                assert greedy(model, inputs) == expected
            else:
                with pytest.raises(ValueError, match=f"sliding_window={window}"):
                    greedy(model, inputs)


def prompt_length(inputs):
    return inputs["input_ids"].shape[1]


def test_without_a_method_nothing_is_refused_and_nothing_changes():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    options = [{}, {"prompt_lookup_num_tokens": 3}, {"cache_implementation": "static"}, {"use_cache": False}]
    plain = [greedy(model, inputs, **option) for option in options]
    with prune(model, None) as trace:
        assert [greedy(model, inputs, **option) for option in options] == plain
        assert trace.prompt is None  # the last one has no cache to look at
        right = {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])}
        right["attention_mask"][:, -2:] = 0
        model(**right)


def test_hidden_image_tokens_are_refused():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    inputs["attention_mask"][:, :8] = 0  # into the first image
    with prune(model, METHOD), pytest.raises(ValueError, match="attention_mask hides some image tokens"):
        model(**inputs)


@pytest.mark.parametrize("method", [FastV(2, 0.5), VTW(3)], ids=str)
def test_withdrawing_needs_a_last_token_of_text_and_no_labels(method):
    model = tiny_llava_onevision()
    ends = prompt_batch(model, [[3, (16, 16, 1), (16, 16, 2)]])
    with prune(model, method), pytest.raises(ValueError, match="ends in an image"):
        model(**ends)
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, method), pytest.raises(ValueError, match="fewer logits than labels"):
        model(**inputs, labels=inputs["input_ids"])


def test_the_decoder_alone_is_refused_instead_of_silently_left_whole():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    with prune(model, METHOD), pytest.raises(ValueError, match="call the whole model"):
        model.model(**inputs)
    model.model(**inputs)


def test_a_model_without_the_expected_modules_is_left_as_it_was():
    model = tiny_llava_onevision()
    del model.model.language_model.layers[5].self_attn.q_proj
    with pytest.raises(ValueError, match=r"layers.5.self_attn has no q_proj"), prune(model, METHOD):
        pass
    assert hooks_of(model) == 0 and "generate" not in vars(model)


def test_somebody_elses_wrapper_of_generate_survives():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    plain = greedy(model, inputs)
    with prune(model, METHOD):
        inner, calls = model.generate, []
        model.generate = lambda *args, **kwargs: calls.append(1) or inner(*args, **kwargs)
    assert greedy(model, inputs) == plain and calls == [1]
    with prune(model, METHOD):
        greedy(model, inputs)
    assert greedy(model, inputs) == plain and calls == [1] * 3


def test_a_copy_inside_the_block_is_refused_and_afterwards_works():
    model = tiny_llava_onevision()
    with prune(model, METHOD), pytest.raises(TypeError, match="copy it outside"):
        copy.deepcopy(model)
    copy.deepcopy(model)


def test_scores_that_nobody_asks_for_are_not_computed_on_request():
    model = tiny_llava_onevision()
    inputs = prompt_batch(model, SAMPLES)
    for method, scored in ((VTW(3), []), (FastV(2, 0.5), []), (METHOD, [2, 3, 4, 5, 6]), (None, [])):
        with prune(model, method) as trace:
            expected = greedy(model, inputs)
        full = trace.vision_attention
        with prune(model, method, record_attention=False) as trace:
            assert greedy(model, inputs) == expected
        known = (~trace.vision_attention[0].isnan()).nonzero().flatten().tolist()
        assert known == scored
        assert torch.equal(trace.vision_attention[0, known], full[0, known])
