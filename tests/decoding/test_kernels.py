"""Kernels over ragged slots agree with attention over each sample's own tokens, and wrong ones are not taken.

FlashAttention's and cuDNN's operators exist on CUDA only. Here they get a CPU implementation that does what their
schemas say, so that the calls are run as they are, with the arguments they would pass on a device. CUDA graphs have a
stand-in too: `tests.graphs`.
"""

import logging

import pytest
import torch

from plphp_core import PLPHP, prune
from plphp_core.decoding import kernels
from plphp_core.decoding.fast_generate import fast_generate, prefill
from plphp_core.decoding.kernels import KERNELS, choose, slot_attention
from plphp_core.decoding.slots import SlotLayer, slot_cache
from plphp_core.decoding.stepping import stepper
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.graphs import RecordedGraph, record

CPU, BF16 = torch.device("cpu"), torch.bfloat16
FLASH = "flash_attention_forward"
CUDNN = "cudnn_attention_forward"
CHAIN = (FLASH, "sdpa_masked")
SLOTS = 11
needs_lengths = pytest.mark.skipif(
    "seqused_k" not in str(torch.ops.aten._cudnn_attention_forward.default._schema),
    reason="cuDNN's operator takes no lengths before torch 2.15",
)
OVER_LENGTHS = [FLASH, pytest.param(CUDNN, marks=needs_lengths)]


@pytest.fixture(autouse=True)
def untried():
    choose.cache_clear()
    yield
    choose.cache_clear()


@pytest.fixture
def flash():
    """Give FlashAttention's and cuDNN's operator a CPU implementation; returns the calls they get."""
    calls = []

    def give(implementation):
        def called(query, keys, values, starts_q, starts_k, max_q, max_k, *flags, **options):
            options = {name: value for name, value in options.items() if value is not None}
            calls.append((query, keys, starts_q, starts_k, max_q, max_k, flags, options))
            return implementation(query, keys, values, starts_q, starts_k, options)

        def of_flash(*args, **options):
            return called(*args, **options), *(torch.empty(0) for _ in range(4))

        def of_cudnn(query, keys, values, bias, starts_q, starts_k, max_q, max_k, logsumexp, *flags, **options):
            assert bias is None
            out = called(query, keys, values, starts_q, starts_k, max_q, max_k, *flags, **options)
            nothing = torch.empty(0)
            return out, nothing, nothing, nothing, max_q, max_k, nothing, nothing, nothing

        library.impl("_flash_attention_forward", of_flash, "CPU")
        library.impl("_cudnn_attention_forward", of_cudnn, "CPU")
        return calls

    with torch.library._scoped_library("aten", "IMPL") as library:
        yield give


def variable_length(query, keys, values, starts_q, starts_k, options, groups=None):
    """One query per sample, packed samples; `groups(h, query_heads, kv_heads)`: the KV head of query head h."""
    groups = groups or (lambda head, query_heads, kv_heads: head // (query_heads // kv_heads))
    out = torch.empty_like(query)
    for sample, (row, start, used) in enumerate(zip(starts_q, starts_k, options["seqused_k"], strict=False)):
        assert row == sample and len(starts_q) == len(starts_k) == len(query) + 1
        own = slice(int(start), int(start + used))
        for head in range(query.shape[1]):
            kv = groups(head, query.shape[1], keys.shape[1])
            scores = keys[own, kv].float() @ query[sample, head].float() * options.get("scale", query.shape[-1] ** -0.5)
            out[sample, head] = (scores.softmax(0) @ values[own, kv].float()).to(out.dtype)
    return out


def slots_and_reference(lengths, query_heads, kv_heads, dim, dtype, scaling):
    """A layer with one new token, a query, and its attention over each sample's own tokens, head by head."""
    torch.manual_seed(0)
    keys, values = (torch.randn(len(lengths), kv_heads, SLOTS, dim).to(dtype) for _ in range(2))
    layer = SlotLayer(keys, values, lengths, room=4, seen=SLOTS)
    query, key, value = (
        torch.randn(len(lengths), heads, 1, dim).to(dtype) for heads in (query_heads, kv_heads, kv_heads)
    )
    layer.update(key, value)
    expected = torch.empty(len(lengths), 1, query_heads, dim)
    for b, length in enumerate(lengths):
        for head in range(query_heads):
            kv = head // (query_heads // kv_heads)
            own_keys = torch.cat([keys[b, kv, SLOTS - length :], key[b, kv]]).float()
            own_values = torch.cat([values[b, kv, SLOTS - length :], value[b, kv]]).float()
            expected[b, 0, head] = (query[b, head, 0].float() @ own_keys.T * scaling).softmax(-1) @ own_values
    return layer, query, expected


@pytest.mark.parametrize("lengths", [(11, 11, 11), (11, 4, 7), (1, 1, 1), (5, 0, 2)])
@pytest.mark.parametrize("query_heads, kv_heads", [(4, 2), (6, 1), (3, 3)])
@pytest.mark.parametrize("name", [*OVER_LENGTHS, "sdpa_masked", "sdpa_slices"])
def test_attention_over_slots_is_attention_over_each_samples_own_tokens(flash, name, query_heads, kv_heads, lengths):
    half = name in (FLASH, CUDNN)
    dtype, close = (BF16, {"atol": 0.03, "rtol": 0.02}) if half else (torch.float32, {"atol": 1e-5, "rtol": 1e-4})
    flash(variable_length)
    layer, query, expected = slots_and_reference(lengths, query_heads, kv_heads, 16, dtype, 0.3)
    found = KERNELS[name](dtype, 16)(query[:, :, 0], layer, 0.3)
    torch.testing.assert_close(found.float(), expected[:, 0], **close)


@pytest.mark.parametrize("name", OVER_LENGTHS)
def test_what_a_kernel_over_lengths_is_told(flash, name):
    calls = flash(variable_length)
    layer, query, _ = slots_and_reference((11, 4, 7), 4, 2, 16, BF16, 0.3)
    KERNELS[name](BF16, 16)(query[:, :, 0], layer, 0.3)
    ((query, keys, starts_q, starts_k, max_q, max_k, flags, options),) = calls
    assert query.shape == (3, 4, 16) and keys.shape == (3 * 15, 2, 16)
    assert keys.data_ptr() == layer.keys.data_ptr()  # the slots themselves, no copy
    assert starts_q.tolist() == [0, 1, 2, 3] and starts_k.tolist() == [0, 15, 30, 45]
    assert (max_q, max_k) == (1, 15) and not any(flags)
    assert options["seqused_k"].tolist() == [12, 5, 8] and options["scale"] == 0.3
    assert {starts_q.dtype, starts_k.dtype, options["seqused_k"].dtype} == {torch.int32}
    assert starts_q is layer.query_starts and starts_k is layer.key_starts  # static: a graph keeps their addresses


def test_the_first_kernel_that_is_right_is_taken_and_named(flash, caplog):
    flash(variable_length)
    caplog.set_level(logging.INFO, "plphp_core.decoding.kernels")
    assert choose(CPU, BF16, 64, 8, 2, CHAIN).name == FLASH
    assert choose(CPU, torch.float32, 64, 8, 2, CHAIN).name == "sdpa_masked"
    assert f"{FLASH}: is for float16 and bfloat16" in caplog.text
    assert choose(CPU, BF16, 20, 8, 2, CHAIN).name == "sdpa_masked"
    assert choose(CPU, BF16, 264, 8, 2, CHAIN).name == "sdpa_masked"


def no_lengths(*given):
    *rest, options = given
    whole = torch.full_like(options["seqused_k"], int(rest[4][1]))
    return variable_length(*rest, {**options, "seqused_k": whole})


def one_short(*given):
    *rest, options = given
    return variable_length(*rest, {**options, "seqused_k": (options["seqused_k"] - 1).clamp(min=1)})


def no_scale(*given):
    *rest, options = given
    return variable_length(*rest, {"seqused_k": options["seqused_k"]})


def heads_in_turn(*given):
    return variable_length(*given, groups=lambda head, query_heads, kv_heads: head % kv_heads)


def nothing_at_all(query, *_):
    return torch.full_like(query, float("nan"))


def not_here(*_):
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")


@pytest.mark.parametrize("wrong", [no_lengths, one_short, no_scale, heads_in_turn, nothing_at_all, not_here])
def test_a_kernel_that_is_wrong_or_raises_is_not_taken(flash, caplog, wrong):
    flash(wrong)
    assert choose(CPU, BF16, 64, 8, 2, CHAIN).name == "sdpa_masked"
    said = "RuntimeError: CUDA error: no kernel image" if wrong is not_here else "differs from fp32 attention by"
    refused = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(refused) == 1 and FLASH in refused[0] and said in refused[0]


def test_the_choice_on_cuda_names_one_backend():
    """What `varlen_attn` takes depends on torch, card and cuDNN: one name would stand for several roundings."""
    assert kernels._preferred(torch.device("cuda")) == (FLASH, "sdpa_masked")


def test_an_operator_without_lengths_is_passed_over(flash, monkeypatch, caplog):
    flash(variable_length)
    caplog.set_level(logging.INFO, "plphp_core.decoding.kernels")

    class Older:
        _schema = torch.ops.aten.add.Tensor._schema

    monkeypatch.setattr(torch.ops.aten._flash_attention_forward, "default", Older)
    assert choose(CPU, BF16, 64, 8, 2, CHAIN).name == "sdpa_masked"
    assert f"{FLASH}: torch {torch.__version__} has it without seqused_k" in caplog.text


def test_where_no_kernel_is_right_the_error_says_why(flash):
    flash(not_here)
    said = rf"{FLASH}: RuntimeError.*sdpa_nothing: none.*model.generate\(\), engine=generate"
    with pytest.raises(RuntimeError, match=said), pytest.MonkeyPatch.context() as patch:
        patch.setitem(KERNELS, "sdpa_nothing", no_kernel)
        choose(CPU, BF16, 64, 8, 2, (FLASH, "sdpa_nothing"))


def no_kernel(dtype, head_dim):
    raise NotImplementedError("none")


@pytest.fixture
def graphs(monkeypatch):
    """A device whose steps are recorded."""
    monkeypatch.setattr(kernels, "_steps_are_recorded", lambda device: True)
    monkeypatch.setattr(kernels, "record", record)


def test_kernels_that_a_graph_records_are_taken(flash, graphs):
    flash(variable_length)
    for name in (FLASH, "sdpa_masked"):
        assert choose(CPU, BF16, 64, 8, 2, (name,)).name == name


def test_a_kernel_that_a_graph_does_not_record_is_not_taken(flash, graphs, caplog):
    """Right numbers are not enough: `sdpa_slices` reads lengths on the host, so a replay has those of the recording."""
    assert choose(CPU, BF16, 64, 8, 2, ("sdpa_slices", "sdpa_masked")).name == "sdpa_masked"
    assert "sdpa_slices: from a CUDA graph differs from fp32 attention by" in caplog.text


def test_a_kernel_that_looks_at_the_device_while_it_is_recorded_is_not_taken(graphs, monkeypatch, caplog):
    def looking(dtype, head_dim):
        masked = KERNELS["sdpa_masked"](dtype, head_dim)
        return lambda query, layer, scaling: masked(query, layer, scaling) * bool(layer.used.max() > 0)

    monkeypatch.setitem(KERNELS, "looking", looking)
    assert choose(CPU, BF16, 64, 8, 2, ("looking", "sdpa_masked")).name == "sdpa_masked"
    assert "looking: RuntimeError: CUDA error: operation not permitted when stream is capturing" in caplog.text


def test_trying_kernels_draws_no_random_numbers(flash):
    flash(variable_length)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choose(CPU, BF16, 32, 4, 2, CHAIN)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", CHAIN)
def test_kernels_read_no_lengths_on_the_host(flash, name):
    flash(variable_length)
    layer, query, _ = slots_and_reference((11, 4, 7), 4, 2, 16, BF16, 0.3)
    attend = KERNELS[name](BF16, 16)
    with RecordedGraph():
        attend(query[:, :, 0], layer, 0.3)
    with pytest.raises(RuntimeError, match="capturing"), RecordedGraph():
        layer.used.max().item()


@torch.no_grad()
def test_a_whole_step_reads_nothing_on_the_host(monkeypatch):
    monkeypatch.setattr(kernels, "_preferred", lambda device: ("sdpa_masked",))
    model = tiny_llava_onevision()
    batch = prompt_batch(model, [[7], [9, 9]])
    with prune(model, PLPHP()) as trace:
        logits, cache, position = prefill(model, batch)
    cache = slot_cache(cache, [layer.counts for layer in trace.layers], 2, batch["input_ids"].shape[1])
    step = stepper(model, cache, position)
    with step.on(), RecordedGraph():
        step(logits.argmax(-1))


@pytest.mark.parametrize("name", CHAIN)
def test_tokens_do_not_depend_on_the_kernel(flash, monkeypatch, name):
    flash(variable_length)
    model = tiny_llava_onevision(dtype=BF16)
    batch = prompt_batch(model, [[7], [5, 5], [9, 9, 9]])
    options = {"max_new_tokens": 6, "eos_token_id": []}
    expected = fast_generate(model, batch, PLPHP(), **options)
    choose.cache_clear()
    monkeypatch.setattr(kernels, "_preferred", lambda device: (name,))
    found = fast_generate(model, batch, PLPHP(), **options)
    assert (expected.kernel, found.kernel) == ("sdpa_slices", name)
    prompt = batch["input_ids"].shape[1]
    assert (found.sequences == expected.sequences)[:, prompt:].float().mean() >= 0.75  # bf16: sums in another order


def test_transformers_gets_heads_last():
    layer, query, expected = slots_and_reference((11, 4, 7), 4, 2, 16, torch.float32, 0.3)
    out, weights = slot_attention(None, query, layer, layer, None, scaling=0.3)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    assert weights is None
