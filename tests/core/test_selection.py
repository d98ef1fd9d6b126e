"""Top-k per image and the gather behind it, against a plain loop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.pruning.selection import gather_index, top_per_image


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
    scores = torch.tensor(data.draw(st.lists(values, min_size=count, max_size=count))).view(batch, heads, tokens)
    budget = [[data.draw(st.integers(0, int((row == j).sum()))) for j in range(int(row.max()) + 1)] for row in image_of]
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
