"""Equalities that tie the rivals together, budgets, draws, and what is refused."""

from operator import le

import pytest
import torch

from baselines import TOVA, AdaKV, KeyDiff, PyramidKV, RandomTokens, SharedHeads, SnapKV, Uniform, VLCache
from baselines.adakv import concentration
from baselines.pyramidkv import spread, stepped
from baselines.vlcache import layer_budgets
from plphp_core import PLPHP, prune
from plphp_core.pruning import method_names
from plphp_core.pruning.prompt import sample_keys
from plphp_core.pruning.selection import head_budgets
from tests.baselines.rivals import BUDGETED, ONE_IMAGE
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES, tiny

SNAP = {"window_size": 2, "kernel_size": 3}
PARAMETERS = {"r": 0.4, "delta_r": 0.3, "alpha": 0.8, "beta": 0.6}


@torch.no_grad()
def prefill(method, samples=None, model=None, **options):
    model = model or tiny_llava_onevision(**options)
    batch = prompt_batch(model, samples or ONE_IMAGE)
    with prune(model, method) as trace:
        logits = model(**batch, use_cache=True).logits
    return trace, logits


def tokens(trace):
    """Tokens held, by layer, sample and head."""
    heads = trace.layers[0].kv_heads
    return [
        [[head[head >= 0].tolist() for head in sample.expand(heads, -1)] for sample in layer.tokens]
        for layer in trace.layers
    ]


SAME = {
    "SnapKV of one row is PLPHP without Δr": (
        SnapKV(budget=0.4, window_size=1, kernel_size=1, whole_layers="plphp"),
        PLPHP(r=0.4, delta_r=0.0),
    ),
    "PyramidKV with β = 1 is SnapKV": (PyramidKV(beta=1, **SNAP), SnapKV(**SNAP)),
    "AdaKV with α = 1 is SnapKV": (AdaKV(alpha=1.0, **SNAP), SnapKV(**SNAP)),
    "AdaKV with α = 1 is SnapKV over the prompt": (
        AdaKV(alpha=1.0, scope="prompt", budget=0.6, **SNAP),
        SnapKV(scope="prompt", budget=0.6, **SNAP),
    ),
    "TOVA is PLPHP with shared heads": (
        TOVA(budget=0.4),
        SharedHeads(r=0.4, delta_r=0.0, whole_layers="none"),
    ),
    "kernels of one pool nothing": (
        SnapKV(window_size=2, kernel_size=1),
        SnapKV(2 / 5, None, "vision", "none", 2, 1, "avg"),
    ),
    "uniform without Δr is PLPHP": (Uniform(r=0.4, delta_r=0.0), PLPHP(r=0.4, delta_r=0.0)),
    "a budget in tokens": (KeyDiff(tokens=10), KeyDiff(tokens=10, budget=0.9)),
}


@pytest.mark.parametrize("what", SAME)
def test_methods_that_say_the_same_keep_the_same(what):
    left, right = (prefill(method)[0] for method in SAME[what])
    assert tokens(left) == tokens(right) and left.retention.min() < 1


@pytest.mark.parametrize("kind", BUDGETED)
def test_a_whole_budget_changes_no_bit(kind):
    _, expected = prefill(None)
    for scope in ("vision", "prompt"):
        trace, logits = prefill(kind(budget=1.0, scope=scope))
        assert torch.equal(logits, expected) and trace.kv_bytes == trace.kv_bytes_full


@pytest.mark.parametrize("kind", [*BUDGETED, AdaKV])
@pytest.mark.parametrize("budget", [0.3, 0.55, 0.8])
def test_what_is_held_is_the_budget(kind, budget):
    """Of vision exactly, of the prompt too; less only where VL-Cache would give a layer more than all that there is."""
    vision, _ = prefill(kind(budget=budget))
    held = [sum(layer.vision_counts[b] for layer in vision.layers) for b in range(2)]
    asked = [8 * int(budget * n + 1e-9) for n in vision.prompt.vision_counts]
    clipped = kind is VLCache and (vision.retention == 1).any()
    assert held == pytest.approx(asked) or (clipped and all(map(le, held, asked)))
    assert (vision.text_retention == 1).all()
    if kind is PyramidKV:
        return
    small = {"window_size": 2} if issubclass(kind, SnapKV) else {}
    prompt, _ = prefill(kind(budget=budget, scope="prompt", **small))
    held = [sum(layer.slots(b) for layer in prompt.layers) for b in range(2)]
    asked = [8 * int(budget * n + 1e-9) for n in prompt.prompt.lengths]
    clipped = kind is VLCache and (prompt.retention == 1).any()
    assert held == pytest.approx(asked) or (clipped and all(map(le, held, asked)))
    assert (prompt.text_retention < 1).any()


@pytest.mark.parametrize("control", [RandomTokens, SharedHeads, Uniform])
def test_a_control_holds_plphps_own_bytes_sample_by_sample(control):
    samples = FAMILIES["llava_onevision"].samples
    expected, _ = prefill(PLPHP(**PARAMETERS), samples)
    found, _ = prefill(control(**PARAMETERS), samples)
    assert found.kv_bytes_alone == expected.kv_bytes_alone and control.control
    assert tokens(found) != tokens(expected)
    if control is not Uniform:
        assert torch.equal(found.retention, expected.retention)
    if control is SharedHeads:
        assert all(head == sample[0] for layer in tokens(found) for sample in layer for head in sample)


def test_random_tokens_depend_on_seed_layer_head_and_sample_and_not_on_the_batch():
    method = RandomTokens(r=0.5, delta_r=0.0)
    model = tiny_llava_onevision()
    together = tokens(prefill(method, ONE_IMAGE, model)[0])
    assert together == tokens(prefill(method, ONE_IMAGE, model)[0])
    assert together != tokens(prefill(RandomTokens(r=0.5, delta_r=0.0, seed=1), ONE_IMAGE, model)[0])
    assert together[2][0][0] != together[2][0][1] and together[2][0][0] != together[3][0][0]
    with sample_keys(["a", "b"]):
        named = prefill(method, ONE_IMAGE, model)[0]
    with sample_keys(["b"]):
        alone = prefill(method, ONE_IMAGE[1:], model)[0]
    assert torch.equal(named.kept[2][1] - named.prompt.padding[1], alone.kept[2][0])
    assert tokens(named) != together
    shared = tokens(prefill(RandomTokens(r=0.5, delta_r=0.0, shared=True), ONE_IMAGE, model)[0])
    assert all(head == sample[0] for layer in shared for sample in layer for head in sample)


def test_heads_compete_for_what_is_not_their_own():
    scores = torch.tensor([[[9.0, 8, 7, 6, 0], [1.0, 2, 3, 4, 0]]])
    among = torch.tensor([[True, True, True, True, False]])
    assert head_budgets(scores, among, [2], 0.0) == ((4, 0),)
    assert head_budgets(scores, among, [2], 0.5) == ((3, 1),)
    assert head_budgets(scores, among, [2], 1.0) == ((2, 2),)
    assert head_budgets(scores, among, [3], 0.0) == ((4, 2),)
    more = scores * torch.tensor([1.0, 10])[:, None]
    assert head_budgets(more, among, [2], 0.0) == ((0, 4),)
    torch.testing.assert_close(concentration(scores[:, :, :4], [2]).flatten(), torch.tensor([17 / 30, 7 / 10]))


def test_official_rounding_of_adakv_by_hand():
    scores = torch.tensor([[[9.0] * 5 + [0.0], [1.0] + [0.0] * 5]])
    found = AdaKV(official_rounding=True).head_budgets(scores, torch.ones(1, 6, dtype=torch.bool), [3])
    assert found == ((4, 1),)


def test_pyramids_by_hand():
    """7,200 tokens, 28 layers, a tenth: capacities 1,264 … 49 beside a window of 72 … and a mean 1.2 % over budget."""
    capacities = [stepped(648, 7200, 72, 20, 28, place) for place in range(28)]
    assert (capacities[0], capacities[-1]) == (1264, 49) and sum(capacities) / 28 == pytest.approx(656.5)
    assert stepped(648, 1295, 72, 20, 28, 5) == 648  # shorter than twice the budget
    line = spread(320, 100, 20, 8)
    assert sum(line) == 320 and line == sorted(line, reverse=True) and max(line) <= 78
    assert sum(spread(560, 100, 20, 8)) == 560 and max(spread(560, 100, 20, 8)) == 100
    assert sum(spread(563, 100, 20, 8)) == 563


def test_layer_budgets_of_vl_cache_by_hand():
    assert layer_budgets([0.5, 0.5], 20, 40, 0) == [10, 10]
    assert layer_budgets([0.75, 0.25], 20, 40, 0) == [15, 5]
    assert layer_budgets([1.0, 0, 0, 0], 160, 100, 0) == [100, 1, 1, 1]  # clipped and not renormalised
    assert layer_budgets([1.0, 0, 0, 0], 160, 100, 0, exact=True) == [100, 20, 20, 20]
    assert layer_budgets([0.6, 0.3, 0.1], 31, 20, 0, exact=True) == [19, 9, 3]
    assert layer_budgets([0.2, 0.8], 80, 40, 0) == [40, 40]


def test_row_density_is_one_for_flat_rows_and_falls_with_sharp_ones():
    model, batch = tiny()
    seen = []

    class Look(SnapKV):
        name = "look"

        def scores(self, view):
            seen.append(view.row_density([2, 3, 1, 4], 0.01))
            return super().scores(view)

    for scale in (0.0, 1.0, 20.0):
        for block in model.model.language_model.layers:
            block.self_attn.scaling = scale
        with torch.no_grad(), prune(model, Look(window_size=4)):
            model(**batch)
    flat, usual, sharp = (torch.stack(seen[n : n + 8]) for n in (0, 8, 16))
    assert (flat == 1).all() and (sharp <= usual).all() and sharp.mean() < usual.mean()


REFUSED = {
    "budget": (dict(budget=0.0), r"SnapKV: budget = 0.0, but must be a number in \(0, 1\]"),
    "more than all": (dict(budget=1.5), "budget = 1.5"),
    "tokens": (dict(tokens=0), "tokens = 0, but must be None or a whole number from 1 on"),
    "scope": (dict(scope="image"), "scope = 'image', but must be one of vision, prompt"),
    "layers": (dict(whole_layers="all"), "whole_layers = 'all', but must be one of none, plphp"),
    "kernel": (dict(kernel_size=4), "kernel_size = 4, but must be odd"),
    "window": (dict(window_size=0), "window_size = 0"),
    "pooling": (dict(pooling="min"), "pooling = 'min', but must be one of max, avg"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_parameters_are_refused_by_name(what):
    options, words = REFUSED[what]
    with pytest.raises(ValueError, match=words):
        SnapKV(**options)


def test_a_window_that_does_not_fit_is_refused_with_numbers():
    with pytest.raises(ValueError, match=r"SnapKV\(.*\): its window of 32 tokens does not fit in the \d+ of \d+"):
        prefill(SnapKV(scope="prompt", budget=0.2))


def test_a_prompt_that_ends_in_an_image_is_scored_by_its_last_row():
    samples = [[4, (20, 28, 1)]]
    many, one = (prefill(SnapKV(window_size=rows, kernel_size=1), samples)[0] for rows in (8, 1))
    assert tokens(many) == tokens(one)


def test_all_are_known_by_name_and_controls_are_marked():
    names = {kind.name for kind in (*BUDGETED, RandomTokens, SharedHeads, Uniform)}
    assert names <= set(method_names())
    assert {kind.name for kind in (*BUDGETED, RandomTokens, SharedHeads, Uniform, PLPHP) if kind.control} == {
        "random",
        "recency",
        "shared_heads",
        "uniform",
    }
