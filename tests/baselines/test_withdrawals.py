"""Methods that withdraw in stages: the float64 reference, what ties them together, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from baselines import DART, VTW, FastV, PyramidDrop, RandomWithdraw, SparseVLM, UniformWithdraw
from baselines.sparsevlm import clusters
from plphp_core import prune
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.pruning import make_method
from plphp_core.pruning.prompt import sample_keys
from tests import withdraw_reference as reference
from tests.baselines.rivals import ONE_IMAGE
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES, covering, each_kind, tiny
from tests.oracle import expect_equal, generate

KINDS = ("llava_1_5", "llava_onevision", "qwen2_vl", "qwen3_vl", "internvl3", "gemma3")
THREE, HALVES = (2, 4, 6), (0.6, 0.4, 0.2)
METHODS = {}
for how in ("keep", "compact"):
    end, compact = f"-{how}", how == "compact"
    METHODS |= {
        f"pyramiddrop{end}": (
            PyramidDrop(THREE, HALVES, positions=how),
            reference.pyramiddrop(THREE, HALVES, compact=compact),
        ),
        f"pyramiddrop-previous{end}": (
            PyramidDrop((1, 5), (0.5, 0.25), of="previous", positions=how),
            reference.pyramiddrop((1, 5), (0.5, 0.25), "previous", compact),
        ),
        f"pyramiddrop-nothing-left{end}": (
            PyramidDrop((3, 6), (0.5, 0.0), positions=how),
            reference.pyramiddrop((3, 6), (0.5, 0.0), compact=compact),
        ),
        f"dart{end}": (
            DART(K=2, R=0.5, positions=how),
            reference.dart(2, lambda n, pivots: int(n * 0.5 / pivots), compact=compact),
        ),
        f"dart-tokens{end}": (
            DART(K=3, tokens=6, vision_pivots=2, text_pivots=1, positions=how),
            reference.dart(3, lambda n, pivots: 6 // pivots, 2, 1, compact=compact),
        ),
        f"uniform{end}": (
            UniformWithdraw(K=3, ratio=0.4, positions=how),
            reference.evenly(3, 0.4, compact),
        ),
        f"sparsevlm{end}": (
            SparseVLM(layer_list=THREE, token_list=(12, 8, 1), positions=how),
            reference.sparsevlm(THREE, (12, 8, 1), compact=compact),
        ),
        f"sparsevlm-2{end}": (
            SparseVLM("2", layer_list=THREE, token_list=(12, 5, 0), positions=how),
            reference.sparsevlm(THREE, (12, 5, 0), "2", False, compact=compact),
        ),
        f"sparsevlm-last{end}": (
            SparseVLM(layer_list=(1,), token_list=(2,), raters="last", positions=how),
            reference.sparsevlm((1,), (2,), raters="last", compact=compact),
        ),
    }


@pytest.mark.parametrize(
    "family, name", covering(METHODS, KINDS, lambda family, name: "qwen" not in family or "keep" in name, each=2)
)
def test_a_padded_batch_with_none_to_four_images_equals_reference(family, name):
    kind = FAMILIES[family]
    expect_equal(kind, kind.model(), kind.samples, *METHODS[name])


@pytest.mark.parametrize("heads, kv_heads", [pytest.param(2, 2, marks=pytest.mark.slow), (4, 1)], ids=["gqa1", "gqa4"])
@pytest.mark.parametrize("name", METHODS)
def test_every_gqa_ratio_equals_reference(name, heads, kv_heads):
    kind = FAMILIES["llava_onevision"]
    model = tiny_llava_onevision(query_heads=heads, kv_heads=kv_heads, seed=heads)
    expect_equal(kind, model, kind.samples[1:2], *METHODS[name], steps=2)


def kept(method, samples=ONE_IMAGE, **options):
    model = tiny_llava_onevision(**options)
    with torch.no_grad(), prune(model, method) as trace:
        logits = model(**prompt_batch(model, samples)).logits[:, -1]
    held = [[{*sample[0].tolist()} for sample in layer] for layer in trace.kept]
    return held, [layer.vision_counts for layer in trace.layers], logits


SAME = {
    "one stage that keeps nothing is VTW": (PyramidDrop((3,), (0.0,), positions="keep"), VTW(K=3)),
    "ranked by the layer before, one stage is FastV": (
        PyramidDrop((3,), (0.5,), "previous", "keep"),
        FastV(K=3, R=0.5),
    ),
    "numbers may be text": (PyramidDrop("3+5", "0.5 0.25"), PyramidDrop([3, 5], [0.5, 0.25])),
    "what is written down is the method": (
        PyramidDrop(THREE, HALVES),
        make_method("pyramiddrop", **PyramidDrop(THREE, HALVES).params()),
    ),
    "a share or tokens": (DART(R=0.0, tokens=16), DART(R=0.0, tokens=23)),
}


@pytest.mark.parametrize("what", SAME)
def test_methods_that_say_the_same_keep_the_same(what):
    even = [[4, (32, 32, 1), 5], [6, (16, 32, 2), 8]]  # images of an even number of tokens: floor is round
    (left, _, a), (right, counts, b) = (kept(method, even) for method in SAME[what])
    assert left == right and torch.equal(a, b) and counts[-1] < counts[0]


ALL = [
    PyramidDrop(THREE, (1.0, 1.0, 1.0), positions="keep"),
    DART(R=0.0, tokens=10_000),
    DART(tokens=999, vision_pivots=0),
    SparseVLM(layer_list=THREE, token_list=(999, 500, 300), positions="keep"),
    SparseVLM("2", layer_list=THREE, token_list="999 500 300"),
]


@pytest.mark.parametrize("family", each_kind(0, KINDS))
def test_a_budget_above_an_images_tokens_changes_no_bit(family):
    model, batch = tiny(family)
    _, plain, _ = generate(model, batch, None, steps=3)
    for method in ALL:
        assert torch.equal(generate(model, batch, method, steps=3)[1], plain), method


def test_random_tokens_before_a_layer_do_not_depend_on_the_batch_and_are_part_of_more():
    few, many = RandomWithdraw(K=3, tokens=4), RandomWithdraw(K=3, tokens=9)
    with sample_keys(["a", "b"]):
        together = kept(few, [ONE_IMAGE[0], ONE_IMAGE[0]])[0]
        more = kept(many, [ONE_IMAGE[0], ONE_IMAGE[0]])[0]
    with sample_keys(["b"]):
        alone = kept(few, [ONE_IMAGE[0]])[0]
    assert together[3][1] == alone[3][0] != together[3][0] and len(alone[3][0]) == 4
    assert together[3][1] < more[3][1] and together[2] == more[2]
    assert kept(RandomWithdraw(K=3, tokens=4, seed=1), [ONE_IMAGE[0]])[0] != kept(few, [ONE_IMAGE[0]])[0]


def test_judged_by_the_last_token_and_without_recycling_one_stage_is_fastv():
    sample = [[4, (32, 32, 1), 5]]
    half = SparseVLM(layer_list=(3,), token_list=(40,), raters="last", recycle=False, positions="keep")
    held, counts, logits = kept(half, sample)
    expected, _, same = kept(FastV(K=3, R=1 - 40 / counts[0][0]), sample)
    assert held == expected and torch.equal(logits, same) and counts[3][0] == 40 < counts[0][0]


def test_what_leaves_is_recycled_in_a_tenth_as_many_clusters():
    method = SparseVLM(layer_list=THREE, token_list=(50, 30, 9), positions="keep")
    model = tiny_llava_onevision()
    with torch.no_grad(), prune(model, method) as trace:
        model(**prompt_batch(model, [[4, (32, 32, 1), 5]]))
    now = trace.prompt.vision_counts[0]
    for layer, count in zip(THREE, (50, 30, 9), strict=True):
        more = int((int(0.3 * (now - count)) + 1) / 10) + 1
        now = trace.layers[layer].vision_counts[0]
        assert now == count + more and len(trace.merged[layer][0]) >= more
    same, one = clusters(torch.ones(7, 4), 2)
    assert same.tolist() == [0, 1] and one.sum(-1).tolist() == [6, 1]
    far = torch.cat([torch.randn(9, 4) * 0.1, torch.randn(5, 4) * 0.1 + 9])
    _, members = clusters(far, 2)
    assert sorted(map(tuple, members.tolist())) == [(False,) * 9 + (True,) * 5, (True,) * 9 + (False,) * 5]


def test_official_lists_hold_for_576_tokens_and_in_proportion_for_others():
    for n, expected in ((576, (300, 200, 110)), (288, (150, 100, 55)), (0, (0, 0, 0))):
        entry = SimpleNamespace(image_sizes=[[n]], vision_counts=(n,))
        assert tuple(SparseVLM().keep(stage, entry)[0] for stage in range(3)) == expected
    assert (SparseVLM(positions=None).renumbers, SparseVLM().recycles) == (True, True)
    assert (SparseVLM("2").renumbers, SparseVLM("2").recycles) == (False, False)


def test_stages_are_nested_and_hold_the_floor_of_their_share():
    held, counts, _ = kept(PyramidDrop(THREE, HALVES))
    for sample in range(2):
        n = counts[0][sample]
        assert [layer[sample] for layer in counts] == [n] * 2 + [int(n * r) for r in (0.6, 0.6, 0.4, 0.4, 0.2, 0.2)]
        assert held[0][sample] > held[2][sample] > held[4][sample] > held[6][sample]


def test_dart_keeps_its_pivots_and_as_many_for_each():
    held, counts, _ = kept(DART(K=2, R=0.5))
    pivots, _, _ = kept(DART(K=2, R=1.0))
    for sample in range(2):
        n = counts[0][sample]
        assert len(held[2][sample]) == counts[2][sample] == 4 + 8 * int(n * 0.5 / 8)
        assert len(pivots[2][sample]) == 4 and pivots[2][sample] < held[2][sample]


def test_dart_keeps_what_is_opposite_to_a_pivot_and_lengths_do_not_count():
    hidden = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(0))
    hidden[0, 9] = -3 * hidden[0, 0]
    stretched = hidden * torch.arange(1, 13)[:, None]
    pivots, kept = torch.tensor([[0, 11]]), torch.zeros(1, 12, dtype=torch.bool).index_fill(1, torch.tensor([0]), True)
    vision, norm = torch.arange(12)[None] < 11, torch.nn.RMSNorm(6)
    found = [
        DART().unlike(SimpleNamespace(hidden=states, vision=vision, final_norm=norm), pivots, kept, torch.tensor([2]))
        for states in (hidden, stretched)
    ]
    assert torch.equal(*found) and found[0][0, 9] and found[0].sum() == 1 + 2 * 2


def test_an_even_weight_of_distances_corrects_no_ranking(monkeypatch):
    method, held = SparseVLM("2", layer_list=(3,), token_list=(9,)), []
    for weight in (torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.25)):
        monkeypatch.setattr("baselines.sparsevlm.weights_of_distance", lambda entry, places, even=weight: even)
        held.append(kept(method)[0])
    monkeypatch.undo()
    assert held[0] == held[1] != kept(method)[0]


def test_dart_on_a_prompt_with_fewer_tokens_than_pivots():
    _, counts, _ = kept(DART(K=2, R=0.8, text_pivots=4), [[4, (20, 28, 1), 1], [3, (8, 8, 1), 2], [5]])
    n = counts[0][0]
    assert counts[2][0] == 4 + 5 * int(n * (1 - 0.8) / 5) and counts[2][2] == 0


REFUSED = {
    "order": (lambda: PyramidDrop((8, 4), (0.5, 0.25)), "layer_list = .8, 4., but layers must be ascending"),
    "layer 0": (lambda: PyramidDrop((0, 4), (0.5, 0.25)), "from 1 on"),
    "lengths": (lambda: PyramidDrop((4,), (0.5, 0.25)), "layer_list has 1 entries, but image_token_ratio_list 2"),
    "rising": (lambda: PyramidDrop((4, 8), (0.25, 0.5)), "what has left cannot come back"),
    "ratio": (lambda: PyramidDrop((4,), (1.5,)), "image_token_ratio_list = 1.5"),
    "words": (lambda: PyramidDrop("a+b", (0.5,)), "must be a list of whole numbers"),
    "halves": (lambda: PyramidDrop((1.5,), (0.5,)), "must be a list of whole numbers"),
    "empty": (lambda: PyramidDrop((), ()), "must be a list"),
    "positions": (lambda: PyramidDrop(positions="short"), "positions = 'short', but must be one of keep, compact"),
    "of": (lambda: PyramidDrop(of="next"), "of = 'next', but must be one of entering, previous"),
    "version": (lambda: SparseVLM("1.0"), "version = '1.0', but must be one of 1.5, 2"),
    "budget": (lambda: SparseVLM(budget=100), r"budget = 100, but must be one of \(192, 128, 96, 64\)"),
    "list": (lambda: SparseVLM(token_list=(3,)), "layer_list has 3 entries, but the list of tokens 1"),
    "negative": (lambda: SparseVLM(token_list=(3, 2, -1)), "must not be negative"),
    "more again": (
        lambda: SparseVLM(token_list="30+40+10"),
        r"SparseVLM: token_list = \(30, 40, 10\), but what has left cannot come back",
    ),
    "K": (lambda: DART(K=0), "DART: K = 0"),
    "R": (lambda: DART(R=2), "DART: R = 2"),
    "tokens": (lambda: DART(tokens=-1), "tokens = -1"),
    "pivots": (lambda: DART(vision_pivots=0, text_pivots=0), "nothing to resemble"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_parameters_are_refused_by_name(what):
    make, words = REFUSED[what]
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("method", [PyramidDrop(), PyramidDrop((8,), (0.5,)), DART(K=8), SparseVLM()], ids=str)
def test_layers_that_the_model_does_not_have_are_refused(method):
    with (
        pytest.raises(ValueError, match="a model of 8 layers has entries 1 … 7"),
        prune(tiny_llava_onevision(8), method),
    ):
        pass


def test_counting_positions_anew_is_refused_under_mrope():
    model, _ = tiny("qwen2_vl")
    with pytest.raises(ValueError, match="pyramiddrop: positions = 'compact', but Qwen2VL"):
        prune(model, PyramidDrop(THREE, HALVES, positions="compact")).__enter__()


@pytest.mark.parametrize("engine", ["generate", "fast"])
def test_every_layer_counts_its_own_tokens_from_zero(engine):
    """The rotary tables that each layer's attention was given, in the prefill and at every step."""
    model, method = tiny_llava_onevision(), PyramidDrop(THREE, HALVES, positions="compact")
    decoder, given = model.model.language_model, {layer: [] for layer in range(8)}
    for layer, block in enumerate(decoder.layers):
        block.self_attn.register_forward_hook(
            lambda module, args, kwargs, out, rows=given[layer]: rows.append(kwargs["position_embeddings"]),
            with_kwargs=True,
        )
    batch = prompt_batch(model, ONE_IMAGE)
    if engine == "generate":
        trace = generate(model, batch, method, steps=4)[2]
    else:
        trace = fast_generate(model, batch, method, max_new_tokens=4, eos_token_id=[]).trace
    for layer, steps in given.items():
        assert len(steps) == 4
        for step, tables in enumerate(steps):
            for row, count in enumerate(trace.layers[layer].entered):
                positions = torch.arange(count) if step == 0 else torch.tensor([count + step - 1])
                for table, expected in zip(tables, decoder.rotary_emb(tables[0], positions[None]), strict=True):
                    assert torch.equal(table[row, -len(positions) :], expected[0])


@pytest.mark.parametrize("method", [PyramidDrop(THREE, HALVES), DART(), SparseVLM(layer_list=THREE)], ids=str)
def test_a_prompt_that_ends_in_an_image_is_refused(method):
    with pytest.raises(ValueError, match="ends in an image"):
        kept(method, [[4, (20, 28, 1)]])
