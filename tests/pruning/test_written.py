"""New hidden states in kept slots: a withdrawal that merges, carried out and traced."""

from dataclasses import dataclass, replace

import pytest
import torch

from plphp_core import prune
from plphp_core.pruning import KeptTokens, Method, Selection, Written
from tests.families.tiny_models import FAMILIES, tiny

LAYER = 2


@dataclass(frozen=True, eq=False)
class Write(Method):
    """Before LAYER every third vision token becomes what `features` says, and the others go; `change` spoils it."""

    name = "write"

    features: object = None
    keep: bool = False
    change: object = None

    def withdraw(self, layer, previous):
        if layer != LAYER:
            return None
        slots = thirds(previous.vision)
        mask = torch.ones_like(slots) if self.keep else slots | ~previous.vision
        written = Written(slots, self.features(slots))
        found = Selection(mask, tuple(mask.sum(-1).tolist()), written)
        return found if self.change is None else self.change(found)


def constant(slots):
    return torch.linspace(-1, 1, 32).repeat(int(slots.sum()), 1)


def places(inputs, model):
    """`(batch, tokens)` bool: the slots that `Write` writes."""
    return thirds(inputs["input_ids"] == model.config.image_token_id)


def thirds(vision):
    return vision & (vision.cumsum(-1) % 3 == 1)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llava_1_5", "internvl3"])
def test_written_features_are_what_the_layer_sees(family):
    """Equal, bit by bit, to the plain model whose layer gets them from a hook."""
    model, inputs = tiny(family)
    slots = places(inputs, model)
    with prune(model, Write(constant, keep=True)) as trace:
        found = model(**inputs).logits
    assert [len(row) for row in trace.merged[LAYER]] == slots.sum(-1).tolist() and min(map(len, trace.merged[0])) == 0
    for row, at in enumerate(trace.merged[-1]):
        assert at.tolist() == slots[row].nonzero().flatten().tolist()

    def write(block, args, kwargs):
        hidden = args[0] if args else kwargs.pop("hidden_states")
        return (hidden.masked_scatter(slots[..., None], constant(slots)), *args[1:]), kwargs

    handle = model.get_decoder().layers[LAYER].register_forward_pre_hook(write, with_kwargs=True)
    assert torch.equal(found, model(**inputs).logits)
    handle.remove()


@torch.no_grad()
def test_samples_keep_their_own_when_lengths_differ():
    """A batch whose samples end up with different counts equals its samples alone."""
    kind = FAMILIES["llava_1_5"]
    model = kind.model()
    batch = kind.batch(model, kind.samples)
    with prune(model, Write(constant)) as trace:
        together = model(**batch).logits[:, -1]
    for row, own in enumerate(batch["attention_mask"].bool()):
        images = sum(not isinstance(part, int) for part in kind.samples[row])
        before = sum(not isinstance(part, int) for sample in kind.samples[:row] for part in sample)
        assert len(trace.merged[LAYER][row]) == len(trace.kept[LAYER][row][0])
        alone = {"input_ids": batch["input_ids"][row, own][None]}
        alone |= {"pixel_values": batch["pixel_values"][before : before + images]} if images else {}
        with prune(model, Write(constant)):
            torch.testing.assert_close(model(**alone).logits[0, -1], together[row], atol=1e-5, rtol=1e-4)


BAD = {
    "too few": (
        lambda one: changed(one, features=one.written.features[1:]),
        "written.features is .* slots are written",
    ),
    "no mask": (lambda one: changed(one, slots=one.written.slots.long()), "written.slots is .*int64"),
    "weights": (lambda one: changed(one, weights=torch.zeros(2, 2)), r"written.weights is \(2, 2\), not"),
    "too wide": (  # the first numbers of each would be taken, without a word
        lambda one: changed(one, features=one.written.features.repeat(1, 2)),
        "written.features are 64 wide, but hidden states 32",
    ),
    "no tensor": (lambda one: changed(one, features=None), "written.features is a NoneType"),
    "text": (lambda one: changed(one, slots=one.written.slots.roll(20, 1)), "written slots are text or padding"),
}


def changed(selection, **values):
    return replace(selection, written=replace(selection.written, **values))


@torch.no_grad()
@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_with_numbers(what):
    model, inputs = tiny("llava_1_5")
    change, words = BAD[what]
    with prune(model, Write(constant, change=change)), pytest.raises(ValueError, match=words):
        model(**inputs)


@dataclass(frozen=True, eq=False)
class Keep(Method):
    """Of each image, before layer 0, what `kept` says."""

    name = "keep"

    kept: object = None
    tower_layer: object = "features"
    spoil: object = None

    def encode(self, view):
        found = [[self.kept(image) for image in images] for images in view.images]
        return view.select(found if self.spoil is None else self.spoil(found))


def half(image, slots=None, features=None, weights=None):
    return KeptTokens(torch.arange(len(image)) % 2 == 0, slots, features, weights)


FIRST = torch.tensor([0])
UNFIT = {
    "mask of another image": (lambda one: KeptTokens(torch.ones(3, dtype=torch.bool)), r"mask is \(3,\)"),
    "numbers of tokens": (lambda one: KeptTokens(torch.tensor([0, 2])), r"must be \(16,\) bool"),
    "a mask alone": (lambda one: half(one).mask, "sample 0, image 0: got Tensor"),
    "slots alone": (lambda one: half(one, FIRST), "slots and features belong together"),
    "features alone": (lambda one: half(one, None, one.features[:1]), "slots and features belong together"),
    "a slot outside": (
        lambda one: half(one, FIRST + 16, one.features[:1]),
        r"slots = \[16\], but must be from 0",
    ),
    "features of the tower": (lambda one: half(one, FIRST, one.tower_features[:1]), r"\(1, 32\), as they enter"),
    "features of two tokens": (lambda one: half(one, FIRST, one.features[:1].repeat(1, 2)), r"features is \(1, 64\)"),
    "weights of others": (lambda one: half(one, FIRST, one.features[:1], torch.ones(1, 3)), r"weights is \(1, 3\)"),
    "rows that nobody knows": (lambda one: half(one, one.tower_attention("class")), "rows = 'class', but must be one"),
}


@torch.no_grad()
@pytest.mark.parametrize("what", UNFIT)
def test_what_does_not_fit_an_image_is_refused_with_numbers(what):
    model, inputs = tiny("llava_1_5")
    kept, words = UNFIT[what]
    with prune(model, Keep(kept)), pytest.raises((TypeError, ValueError), match=words):
        model(**inputs)


@torch.no_grad()
def test_choices_are_for_all_images_and_of_a_layer_that_there_is():
    model, inputs = tiny("llava_1_5")
    with prune(model, Keep(half, spoil=lambda found: found[:2])), pytest.raises(ValueError, match=r"\[1, 3\] images"):
        model(**inputs)
    with pytest.raises(ValueError, match="tower_layer = 'last', but must be one of"), prune(model, Keep(half, "last")):
        pass
