"""Top-k per image and the gather behind it, against a plain loop; selections that break the rules are refused."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plphp_core import prune
from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection, SelectionCheck, gather_index, top_per_image
from tests.factories import METHOD, greedy, prompt_batch, tiny_llava_onevision


@given(data=st.data())
def test_top_per_image_equals_a_loop_with_ties_to_the_earlier_token(data):
    batch, heads, tokens = (data.draw(st.integers(1, n)) for n in (3, 3, 12))
    image_of = torch.tensor(
        data.draw(
            st.lists(st.lists(st.integers(-1, 2), min_size=tokens, max_size=tokens), min_size=batch, max_size=batch)
        )
    )
    values = st.sampled_from([float("-inf"), -3e20, -2.0, -1e-40, -0.0, 0.0, 1e-40, 1e-8, 0.25, 0.5, 7e20])
    count = batch * heads * tokens
    for _ in range(2):  # two layers of one prompt
        scores = torch.tensor(data.draw(st.lists(values, min_size=count, max_size=count))).view(batch, heads, tokens)
        budget = [
            [data.draw(st.integers(0, int((row == j).sum()))) for j in range(int(row.max()) + 1)] for row in image_of
        ]
        selection = top_per_image(scores, image_of, tuple((image_of >= 0).sum(1).tolist()), budget)
        for b in range(batch):
            for h in range(heads):
                expected = set((image_of[b] < 0).nonzero().flatten().tolist())
                for j, keep in enumerate(budget[b]):
                    own = (image_of[b] == j).nonzero().flatten().tolist()
                    expected |= set(sorted(own, key=lambda i: (-float(scores[b, h, i]), i))[:keep])
                assert set(selection.mask[b, h].nonzero().flatten().tolist()) == expected
            assert selection.counts[b] == len(expected)


def test_gather_index_fills_up_in_front():
    mask = torch.tensor([[True, False, True, True], [False, False, True, False]])
    index, filler = gather_index(mask, (3, 1))
    assert index[0].tolist() == [0, 2, 3]
    assert index[1, -1].item() == 2
    assert filler.tolist() == [[False] * 3, [True, True, False]]
    assert gather_index(mask[:1], (3,))[1] is None


@dataclass(frozen=True)
class Wrong(Method):
    """Keeps everything, and then spoils what it says of that."""

    name: ClassVar[str] = "wrong"
    spoil: object = field(default=None, repr=False)
    verb: str = "compress"

    @property
    def withdraws(self):
        return self.verb == "withdraw"

    def _selection(self, shape, device):
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        return self.spoil(mask, (shape[-1],) * shape[0])

    def compress(self, layer, view):
        if self.verb == "compress" and layer == 1:
            batch, tokens = view.image_of.shape
            return self._selection((batch, view.kv_heads, tokens), view.image_of.device)

    def withdraw(self, layer, previous):
        if self.verb == "withdraw" and layer == 2:
            return self._selection(tuple(previous.image_of.shape), previous.image_of.device)


def fewer(mask, counts):
    mask[1, ..., 30] = False  # a vision token of sample 1; counts do not say so
    return Selection(mask, counts)


def head_by_head(mask, counts):
    mask[0, 1, 10] = False
    return Selection(mask, counts)


def textless(mask, counts):
    mask[..., -3] = False
    return Selection(mask, tuple(count - 1 for count in counts))


SPOILT = {
    "shape": (lambda mask, counts: Selection(mask[..., 1:], counts), r"mask is .* but must be \(2, .* bool"),
    "dtype": (lambda mask, counts: Selection(mask.float(), counts), r"torch.float32.* but must be"),
    "few counts": (lambda mask, counts: Selection(mask, counts[:1]), "counts = .* must be 2 plain integers"),
    "tensors": (lambda mask, counts: Selection(mask, torch.tensor(counts)), "must be 2 plain integers"),
    "range": (lambda mask, counts: Selection(mask, tuple(c + 1 for c in counts)), "plain integers from 0 to"),
    "a mask": (lambda mask, counts: mask, "got Tensor, but a Selection"),
    "counts": (fewer, r"sample 1.*: the mask keeps \d+ tokens, but counts say \d+"),
    "text": (textless, "sample 0.*: the mask leaves out 1 tokens that must stay"),
}


@torch.no_grad()
@pytest.mark.parametrize("verb, place", [("compress", "compress in layer 1"), ("withdraw", "withdraw before layer 2")])
@pytest.mark.parametrize("what", SPOILT)
def test_a_wrong_selection_is_refused_with_method_layer_sample_and_numbers(what, verb, place):
    spoil, words = SPOILT[what]
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, [[3, (16, 16, 1), (16, 16, 2), 6], [4, (16, 16, 3), (16, 16, 4), 6]])
    with (
        prune(model, Wrong(spoil, verb)),
        pytest.raises((TypeError, ValueError), match=rf"(?s)Wrong\(verb='{verb}'\), {place}.*{words}"),
    ):
        model(**inputs)
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_heads_that_keep_other_numbers_than_said_are_named_and_a_device_is_looked_at_once_at_the_end(monkeypatch):
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, [[3, (16, 16, 1), (16, 16, 2), 6]])
    with prune(model, Wrong(head_by_head)), pytest.raises(ValueError, match="sample 0, head 1: the mask keeps"):
        model(**inputs)


def test_what_lies_on_a_device_is_not_looked_at_before_the_last_layer():
    image_of = torch.empty(1, 5, dtype=torch.long, device="meta")  # any look at a meta tensor raises
    stream = SimpleNamespace(image_of=image_of, valid=torch.empty(1, 5, dtype=torch.bool, device="meta"))
    check = SelectionCheck(METHOD)
    check(Selection(torch.empty(1, 2, 5, dtype=torch.bool, device="meta"), (5,)), stream, kv_heads=2, layer=3)
    with pytest.raises((NotImplementedError, RuntimeError)):
        check.verify()


@torch.no_grad()
def test_text_may_go_where_the_method_says_so(small):
    model, inputs = small

    @dataclass(frozen=True)
    class Evicting(Wrong):
        name: ClassVar[str] = "evicting"
        evicts_text: ClassVar[bool] = True

    with prune(model, Evicting(textless)) as trace:
        greedy(model, inputs)
    assert trace.layers[1].counts[0] == trace.layers[0].counts[0] - 1
    assert trace.retention[0].tolist() == [1.0] * 4  # of vision tokens, which have all stayed

    def some_of_each_head(mask, counts):
        mask[:, 0, 10:12], mask[:, 1, 10], mask[:, 1, -3] = False, False, False  # two of vision; one, and one of text
        return Selection(mask, tuple(count - 2 for count in counts))

    with prune(model, Evicting(some_of_each_head)) as trace:
        model(**inputs)
    vision = trace.prompt.vision_counts[0]
    assert trace.retention[0, 1].item() == pytest.approx((vision - 1.5) / vision)
    assert [len(head) for head in trace.kept[1][0]] == [vision - 2, vision - 1]


@torch.no_grad()
def test_rows_that_were_not_asked_for_are_a_sentence(small):
    model, inputs = small

    @dataclass(frozen=True)
    class Greedy(Method):
        name: ClassVar[str] = "greedy"
        query_rows: int | None = 1

        def compress(self, layer, view):
            view.mean_row()

    with (
        prune(model, Greedy()),
        pytest.raises(ValueError, match=r"layer 0: \d+ query rows are read, but 1 are held: say so in .* query_rows"),
    ):
        model(**inputs)
    with prune(model, Greedy(None)) as trace:
        model(**inputs)
    assert len(trace.layers) == 4
    for rows in (0, -1, 1.5, True, "all"):
        with pytest.raises(ValueError, match=f"query_rows = {rows!r}, but must be"), prune(model, Greedy(rows)):
            pass
