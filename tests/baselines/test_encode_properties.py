"""What holds of encode methods whatever the model: published invariants, budgets, sharing, and what is refused."""

import functools
import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines import CDPruner, DivPrune, PruMerge, RandomWithdraw, UniformWithdraw, VisionZip, VisPruner
from baselines.cdpruner import greedy_map
from baselines.divprune import farthest
from baselines.vispruner import thinned
from plphp_core import prune
from plphp_core.decoding.features import shared_features
from plphp_core.families import family_of
from plphp_core.families.anyres import anyres_patches
from plphp_core.pruning.encode_view import ImageView
from plphp_core.pruning.prompt import questions, sample_keys
from tests.examples import examples
from tests.families.tiny_models import FAMILIES, tiny
from tests.families.tiny_parts import word_tokenizer

ALL = (DivPrune, VisionZip, VisPruner, PruMerge, RandomWithdraw, UniformWithdraw)
GENERATE = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}


@torch.no_grad()
def forward(model, inputs, method):
    with prune(model, method) as trace:
        return trace, model(**inputs).logits


def whole(kind):
    return kind(ratio=1.0, adaptive=False) if kind is PruMerge else kind(ratio=1.0)


@pytest.mark.parametrize("family", ["llava_1_5", "llava_onevision", "qwen3_vl", "internvl3", "idefics3", "gemma3"])
def test_keeping_everything_changes_no_bit_and_bf16_works(family):
    model, inputs = tiny(family, layers=4)
    _, plain = forward(model, inputs, None)
    for kind in ALL:
        for method in (whole(kind), kind(tokens=10**6, **{"adaptive": False} if kind is PruMerge else {})):
            trace, logits = forward(model, inputs, method)
            assert torch.equal(logits, plain) and (trace.retention == 1).all() and not any(map(len, trace.merged[0]))
    model, inputs = tiny(family, layers=4, dtype=torch.bfloat16)
    for kind in ALL:
        trace, logits = forward(model, inputs, kind())
        assert logits.isfinite().all() and trace.retention.min() < 1


@pytest.mark.parametrize("kind", ALL)
def test_images_of_fewer_tokens_than_the_budget_stay_whole_beside_others_that_shrink(kind):
    """Qwen's images differ in size: 6, then 4, 6 and 12 tokens, none, then 16 and 12."""
    options = {"adaptive": False} if kind is PruMerge else {}
    trace, _ = forward(*tiny("qwen2_vl", layers=4), kind(tokens=7, **options))
    kept = [
        [int(torch.isin(image, row[0]).sum()) for image in images]
        for images, row in zip(trace.images, trace.kept[0], strict=True)
    ]
    assert kept == [[min(len(image), 7) for image in images] for images in trace.images]
    assert len({sum(row) for row in kept}) == 4


@pytest.mark.parametrize("per", ["image", "crop"])
@pytest.mark.parametrize("newlines", ["drop", "rows", "compete"])
def test_newlines_and_crops(per, newlines):
    model, batch = tiny("llava_next", layers=4)
    if per == "crop" and newlines == "compete":
        with pytest.raises(ValueError, match="per = 'crop' with newlines = 'compete'"):
            VisionZip(per=per, newlines=newlines)
        return
    trace, _ = forward(model, batch, VisPruner(tokens=5, per=per, newlines=newlines))
    patches = iter(family_of(model).token_patches(model, batch))
    for images, kept in zip(trace.images, trace.kept[0], strict=True):
        for places in images:
            one = next(patches)
            own = torch.isin(places, kept[0])
            shown, ends = own & ~one.newline, own & one.newline
            if newlines == "compete":
                assert own.sum() == 5
                continue
            sizes = [int((shown & (one.crop_of == crop)).sum()) for crop in range(one.length // one.crop)]
            have = [int((one.crop_of == crop).sum()) for crop in range(one.length // one.crop)]
            assert sizes == [min(size, 5) for size in have] if per == "crop" else sum(sizes) == 5
            at, expected = 0, []
            for number, end in enumerate(one.newline.tolist()):
                if end:
                    expected.append(newlines == "rows" and bool((shown & (one.crop_of > 0))[at:number].any()))
                    at = number + 1
            assert ends[one.newline].tolist() == expected


# --- DivPrune, VisPruner ---------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 999), n=st.integers(2, 30))
@examples(30)
def test_fewer_are_a_part_of_more_and_each_is_nearer_than_the_one_before(seed, n):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 4, generator=generator)
    features[n // 2] = features[0]  # a duplicate, as newlines are
    order = farthest(features, n)
    assert sorted(order.tolist()) == list(range(n))
    assert all(farthest(features, number).tolist() == order[:number].tolist() for number in range(1, n))
    unit = torch.nn.functional.normalize(features, dim=-1)
    gaps = [float((1 - unit[order[:k]] @ unit[order[k]]).min()) for k in range(1, n)]
    assert all(b <= a + 1e-5 for a, b in itertools.pairwise(gaps))


def test_two_clusters_give_one_token_each_and_lengths_do_not_count():
    features = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(farthest(features, 20), farthest(features * torch.arange(1, 31)[:, None], 20))
    centres = torch.eye(8)[:2].repeat_interleave(5, 0)
    features = centres + 0.01 * torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    assert sorted(int(i) // 5 for i in farthest(features, 2)) == [0, 1]


@given(n=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 99))
@examples(40)
def test_thinning_leaves_the_number_for_odd_and_even(n, share, seed):
    unit = torch.nn.functional.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)
    left = thinned(unit, torch.randperm(n, generator=torch.Generator().manual_seed(seed)), round(share * n))
    assert len(set(left.tolist())) == len(left) == round(share * n)


def test_of_two_equal_tokens_side_by_side_one_goes_first_and_attention_alone_is_its_top():
    unit = torch.eye(6)
    unit[3] = unit[2]
    assert sorted(thinned(unit, torch.arange(6), 5).tolist()) == [0, 1, 3, 4, 5]
    trace, _ = forward(*tiny("llava_1_5", layers=4), VisPruner(tokens=5, important=1.0))
    zipped, _ = forward(*tiny("llava_1_5", layers=4), VisionZip(tokens=5, contextual=0.0, class_token=False))
    for one, other in zip(trace.kept[0], zipped.kept[0], strict=True):
        assert torch.equal(one, other)


# --- CDPruner ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 999), n=st.integers(2, 24))
@examples(30)
def test_picks_maximise_the_determinant_fewer_are_a_part_of_more_and_duplicates_come_last(seed, n):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.nn.functional.normalize(torch.randn(n, 40, generator=generator), dim=-1)
    relevance = torch.rand(n, generator=generator) * 0.8 + 0.2
    kernel = relevance[:, None] * (unit @ unit.T) * relevance
    order = greedy_map(kernel, relevance, n)
    assert sorted(order.tolist()) == list(range(n)) and order[0] == relevance.argmax()
    assert all(torch.equal(greedy_map(kernel, relevance, k), order[:k]) for k in range(1, n))
    assert torch.equal(greedy_map(torch.diag(relevance**2), relevance, n), relevance.argsort(descending=True))
    even = torch.full((n,), 0.5)  # equal relevance: diversity alone
    assert torch.equal(greedy_map(0.25 * unit @ unit.T, even, n), greedy_map(unit @ unit.T, 2 * even, n))
    twice = torch.cat([unit, unit])
    both = torch.cat([relevance, relevance])
    again = greedy_map(both[:, None] * (twice @ twice.T) * both, both, 2 * n)
    assert sorted(again.tolist()) == list(range(2 * n)) and sorted((again[:n] % n).tolist()) == list(range(n))


@pytest.mark.parametrize("factor, shift", [(0.5, 0.0), (1.0, 0.3), (2.0, -0.7)])
def test_relevance_is_the_same_for_cosines_moved_and_stretched(factor, shift):
    class Told(CDPruner):
        name = "told"

        def _cosines(self, image):
            return image.cosines

    cosines = torch.rand(30, generator=torch.Generator().manual_seed(0))
    features, newline = torch.randn(30, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(30).bool()
    asked = {"features": features, "newline": newline, "question": "w1"}
    one, other = ByHand(cosines=cosines, **asked), ByHand(cosines=factor * cosines + shift, **asked)
    torch.testing.assert_close(Told().relevances(one), Told().relevances(other), atol=1e-5, rtol=1e-5)
    picks = [Told().choose(each, torch.arange(30), 9).mask for each in (one, other)]
    assert torch.equal(*picks) and picks[0].sum() == 9


@torch.no_grad()
def test_newlines_that_go_have_no_say_in_what_is_relevant():
    model, inputs = tiny("llava_onevision")
    text = torch.nn.functional.normalize(model.get_input_embeddings()(inputs["input_ids"][0, -5:]), dim=-1).mean(0)
    found = []
    for newline in (0 * text, -text):  # less relevant than any patch
        model.model.image_newline.copy_(newline)
        found.append(forward(model, inputs, CDPruner(tokens=6, relevance="text"))[0].kept[0])
    assert all(torch.equal(*pair) for pair in zip(found[0][:2], found[1][:2], strict=True))


def test_clip_ranks_by_the_question_and_an_unknown_one_is_refused(tmp_path):
    """A CLIP made by hand: r is minus the cosine with the question's embedding, and the question matters."""
    from transformers import CLIPConfig, CLIPModel

    text = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "eos_token_id": 59}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 5}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    clip.save_pretrained(tmp_path)
    word_tokenizer([], {"</s>": 56}, 60, eos_token="</s>").save_pretrained(tmp_path)
    model, inputs = tiny("llava_1_5", layers=4)
    method, seen = CDPruner(clip=str(tmp_path), tokens=4), []

    class Look(CDPruner):
        name = "look"

        def relevances(self, image):
            seen.append((image, super().relevances(image)))
            return seen[-1][1]

    asked = ["w1 w2 w3 w4 w5 w6 w7", "<image>\nw3", "w5", "w6 w8"]
    with questions(asked):
        trace, _ = forward(model, inputs, Look(clip=str(tmp_path), tokens=4))
    assert all(len(row[0]) == 4 * len(images) for row, images in zip(trace.kept[0], trace.images, strict=True))
    image, found = seen[0]
    assert image.question == asked[0]
    pieces = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]])
    with torch.no_grad():
        words = clip.get_text_features(input_ids=pieces).pooler_output
        patches = clip.visual_projection(clip.vision_model.post_layernorm(image.tower_features))
    raw = -torch.nn.functional.cosine_similarity(patches[:, None], words, dim=-1).mean(1)
    torch.testing.assert_close(found, (raw - raw.min() + 1e-6) / (raw.max() - raw.min()), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="cdpruner ranks by the question, which is known in runs only"):
        forward(model, inputs, method)
    with pytest.raises(ValueError, match="cdpruner reads the vision tower of LLaVA-OneVision: relevance = 'clip', but"):
        forward(*tiny("llava_onevision", layers=4), method)


# --- merging, on images made by hand ---------------------------------------------------------------------------------


class ByHand(SimpleNamespace):
    has_class_token, projects = False, False

    def __len__(self):
        return len(self.features)

    def tower_attention(self, rows, joined=False):
        return self.scores


def image(features, scores):
    keys = torch.randn(len(features), 2, 3, generator=torch.Generator().manual_seed(1))
    return ByHand(features=features, scores=scores, tower_keys=keys)


@pytest.mark.parametrize("merge, factor", [("sum", 2.0), ("mean", 1.0)])
def test_equal_patches_merge_to_twice_or_once_themselves_and_every_token_joins_one_target(merge, factor):
    one = image(torch.ones(40, 6) * 3, torch.rand(40, generator=torch.Generator().manual_seed(0)))
    kept = VisionZip(merge=merge, contextual=0.25).choose(one, torch.arange(40), 16)
    assert kept.mask.sum() == 16 and len(kept.slots) == 4
    joined = (kept.weights > 0).sum(1) - 1
    assert int(joined.sum()) == 40 - 16
    expected = torch.where((joined > 0)[:, None], 3 * factor, torch.tensor(3.0))
    torch.testing.assert_close(kept.features, expected.expand(-1, 6))


def test_contextual_tokens_are_plain_means_and_hold_what_is_merged_once():
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    one = image(features, torch.rand(40, generator=torch.Generator().manual_seed(0)))
    kept = VisionZip(merge="mean", contextual=0.25).choose(one, torch.arange(40), 16)
    sizes = (kept.weights > 0).sum(1)
    for merged, weights in zip(kept.features, kept.weights, strict=True):
        torch.testing.assert_close(merged, features[weights > 0].mean(0))
    dominant = kept.mask.index_fill(0, kept.slots, False)
    torch.testing.assert_close((sizes[:, None] * kept.features).sum(0), features[~dominant].sum(0))


def test_tokens_looked_at_alike_merge_to_their_plain_mean():
    features, n = torch.randn(48, 6, generator=torch.Generator().manual_seed(1)), 48
    method = PruMerge(adaptive=False, plus=False, neighbours=n - 1)
    kept = method.choose(image(features, torch.ones(n)), torch.arange(n), 13)
    assert kept.slots.tolist() == list(range(13))
    torch.testing.assert_close(kept.features[:-1] / n, features.mean(0).expand(12, -1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kept.features[-1] / (n - 12), features[12:].mean(0), atol=1e-5, rtol=1e-5)


def test_prumerge_without_neighbours_selects_and_with_them_adds_attention_times_features():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(48, generator=generator) * 0.01
    scores[[5, 17]] = 1.0
    features = torch.randn(48, 6, generator=generator)
    plain = PruMerge(neighbours=0).choose(image(features, scores), torch.arange(48), 47)
    torch.testing.assert_close(plain.features[:-1], features[plain.slots[:-1]])
    gone = [i for i in range(48) if i not in plain.slots[:-1].tolist()]
    torch.testing.assert_close(plain.features[-1], (scores[gone, None] * features[gone]).sum(0))
    assert {5, 17} <= set(plain.slots.tolist()) and plain.slots[-1] == gone[0]
    flat = torch.full((48,), 0.02)
    same = PruMerge(plus=False, extra=False, neighbours=32).choose(image(torch.ones(48, 6), flat), torch.arange(48), 47)
    assert len(same.slots) == 1  # no outlier
    torch.testing.assert_close(same.features, torch.full((1, 6), 1 + 32 * 0.02))


# --- the view --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llava_1_5", "mantis", "llava_onevision", "llava_next"])
def test_what_is_projected_of_a_patch_is_the_token_that_enters_the_decoder(family):
    model, inputs = tiny(family, layers=4)
    seen = []

    class Look(VisPruner):
        name = "look"

        def choose(self, image: ImageView, among, budget):
            seen.append((image.project(image.tower_features)[~image.newline], image.features[~image.newline]))
            return super().choose(image, among, budget)

    forward(model, inputs, Look())
    assert len(seen) == sum(not isinstance(part, int) for sample in FAMILIES[family].samples for part in sample)
    for projected, features in seen:
        torch.testing.assert_close(projected, features, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(700, 900), (300, 1500), (1500, 310)])
def test_a_shrunk_grid_is_made_of_patches_as_the_model_interpolates_it(size):
    vision = SimpleNamespace(image_size=384, patch_size=14)
    grids = [[384 * rows, 384 * columns] for rows in range(1, 5) for columns in range(1, 5)]
    config = SimpleNamespace(vision_config=vision, image_grid_pinpoints=grids)
    found = anyres_patches(config, list(size), 0, most=2)
    values = torch.randn(found.length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    from transformers import LlavaOnevisionModel

    pack = LlavaOnevisionModel.pack_image_features
    owner = SimpleNamespace(config=config)
    expected, _ = pack(owner, [values.view(-1, 27 * 27, 1)], [size], torch.zeros(1).double(), "anyres_max_2")
    weights = torch.ones_like(found.places).double() / found.places.shape[1] if found.weights is None else found.weights
    own = (values[found.places.clamp(min=0)] * weights).sum(1).masked_fill(found.newline, 0)
    torch.testing.assert_close(own, expected[0][:, 0], atol=1e-5, rtol=1e-5)
    assert found.places.shape[1] == 4


# --- generate(), sharing, draws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VisionZip, PruMerge])
@pytest.mark.parametrize("family", ["llava_1_5", "qwen2_5_vl"])
def test_beams_see_the_tower_of_their_own_sample(family, kind):
    model, inputs = tiny(family, layers=4)
    with prune(model, kind()) as alone:
        model.generate(**inputs, **GENERATE)
    with prune(model, kind()) as beams:
        model.generate(**inputs, **GENERATE, num_beams=2)
    for layer in range(4):
        expected = [row.tolist() for row in alone.kept[layer] for _ in range(2)]
        assert [row.tolist() for row in beams.kept[layer]] == expected


def test_features_that_several_methods_share_bring_the_tower_along():
    """Encoded once without a look at the tower, and once for each layer of it that is read."""
    model, inputs = tiny("llava_1_5", layers=4)
    methods = [None, VisionZip(), DivPrune(), VisPruner(), PruMerge(), VisionZip(ratio=0.5), PruMerge(neighbours=2)]
    calls, encode = [], model.model.get_image_features

    @functools.wraps(encode)  # generate() reads its signature
    def counted(*args, **kwargs):
        calls.append(1)
        return encode(*args, **kwargs)

    def answers(method):
        with prune(model, method) as trace:
            return model.generate(**inputs, **GENERATE).tolist(), trace.kv_bytes

    expected = [answers(method) for method in methods]
    model.model.get_image_features = counted
    with shared_features(model) as clock:
        assert [answers(method) for method in methods] == expected
    assert len(calls) == 3 and clock.reused_ms > 0


def test_draws_depend_on_seed_sample_and_image_and_fewer_are_a_part_of_more():
    model, inputs = tiny("qwen2_vl", layers=4)

    def kept(method, keys="abcd", layer=0):
        with sample_keys(keys):
            trace, _ = forward(model, inputs, method)
        return [set(row[0].tolist()) for row in trace.kept[layer]]

    some, more = kept(RandomWithdraw(tokens=2)), kept(RandomWithdraw(tokens=3))
    assert all(a <= b for a, b in zip(some, more, strict=True)) and some == kept(RandomWithdraw(tokens=2))
    assert some != kept(RandomWithdraw(tokens=2, seed=1)) and some != kept(RandomWithdraw(tokens=2), "efgh")
    later, whole = kept(RandomWithdraw(tokens=2, K=2), layer=2), kept(RandomWithdraw(tokens=2, K=2), layer=1)
    assert later == some and whole == kept(None)
    image = forward(model, inputs, UniformWithdraw(tokens=2))[0]
    assert [int(i - image.images[0][0][0]) for i in image.kept[0][0][0]] == [1, 4]  # ⌊(i + ½) · 6 / 2⌋


# --- refused ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "resampler": (
        "idefics2",
        VisionZip(),
        "visionzip reads the vision tower of IDEFICS2: its tokens come out of a resampl",
    ),
    "no class token": ("qwen2_vl", VisPruner(attention="cls"), "attention = 'cls', but it has no class token"),
    "positions": ("qwen2_vl", DivPrune(positions="compact"), "divprune: positions = 'compact', but .*M-RoPE"),
    "layers": ("qwen2_vl", RandomWithdraw(K=9), "RandomWithdraw: K = 9, but the model has 4 layers"),
}


@pytest.mark.parametrize("layer", [0, -3, 3])
def test_features_that_no_layer_of_the_tower_made_are_refused(layer):
    model = FAMILIES["llava_1_5"].model(layers=4)
    model.config.vision_feature_layer = layer
    words = f"vision_feature_layer = {layer}: .* none of the tower's 2 layers, .* allowed: 1 to 2 and -2 to -1"
    with pytest.raises(ValueError, match=f"visionzip reads the vision tower of LLaVA-1.5: {words}"):
        prune(model, VisionZip()).__enter__()


def test_a_budget_per_crop_where_crops_are_not_known_names_the_method():
    with pytest.raises(ValueError, match="CDPruner: per = 'crop', but this family does not say which crop"):
        forward(*tiny("idefics2", layers=4), CDPruner(per="crop", relevance="text"))


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_the_model_is_refused_at_the_door(what):
    family, method, words = REFUSED[what]
    with pytest.raises(ValueError, match=words), prune(FAMILIES[family].model(layers=4), method):
        pass


@pytest.mark.parametrize(
    "values, words",
    [
        ({"tokens": 0}, "VisionZip: tokens = 0, but must be None or a whole number from 1 on"),
        ({"ratio": 1.5}, r"VisionZip: ratio = 1.5, but must be a number in \[0, 1\]"),
        ({"rounding": "up"}, "VisionZip: rounding = 'up', but must be one of round, floor, ceil"),
        ({"attention": "all"}, "VisionZip: attention = 'all', but must be one of auto, cls, received"),
        ({"merge": "max"}, "VisionZip: merge = 'max'"),
        ({"positions": "new"}, "VisionZip: positions = 'new', but must be one of keep, compact"),
        ({"contextual": 2.0}, "VisionZip: contextual = 2.0"),
    ],
)
def test_bad_parameters_are_refused_by_name(values, words):
    with pytest.raises(ValueError, match=words):
        VisionZip(**values)


@pytest.mark.parametrize("name, value", [("ratio", 0.5), ("tokens", 64), ("rounding", "floor")])
def test_a_budget_that_outliers_decide_is_refused_so_that_no_row_shows_it(name, value):
    with pytest.raises(ValueError, match=f"PruMerge: {name} = {value!r}, but with adaptive = True outliers decide"):
        PruMerge(**{name: value})
    assert getattr(PruMerge(adaptive=False, **{name: value}), name) == value


def test_features_from_elsewhere_are_refused_where_the_tower_is_read_and_taken_where_it_is_not():
    model, inputs = tiny("llava_1_5", layers=4)
    outside = model.model.get_image_features(inputs["pixel_values"], return_dict=True)
    given = {k: v for k, v in inputs.items() if k != "pixel_values"} | {"mm_encoder_outputs": {"image": outside}}
    trace, _ = forward(model, given, DivPrune(tokens=3))
    assert len(trace.kept[0][0][0]) == 3
    with pytest.raises(ValueError, match="the vision tower did not run inside the prune block"):
        forward(model, given, VisionZip())
