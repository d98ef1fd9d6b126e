"""Control, toy only: the tokens that lie on what the answer is about stay. Would keeping the right tokens suffice?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.budgeted import Budgeted
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class Oracle(Budgeted):
    """Of each image, the whole view's tokens on the spots that the reference answer tells of come first, one per spot;
    what is left of the budget goes to others, drawn at random in every layer and head.

    It looks at the reference, so it is no method: it says what keeping the right tokens would be worth. Only the toy's
    test samples are known, in runs, which name a sample by its images' pixels (`prompt.sample_keys`).

    Raises:
        ValueError: in a prefill, a sample that the toy did not draw.
    """

    name: ClassVar[str] = "oracle"
    label: ClassVar[str] = "Oracle"
    control: ClassVar[bool] = True
    needs_answers: ClassVar[bool] = True

    def scores(self, view: LayerView) -> Tensor:
        found = torch.zeros(view.image_of.shape)
        for row, (key, sizes) in enumerate(zip(view.sample_keys, view.image_sizes, strict=True)):
            if sizes:
                shown = view.image_of[row].cpu() >= 0
                found[row, shown] = torch.cat([self._rank(*image) for image in self._images(key, sizes)])
        per_head = found[:, None].expand(-1, view.kv_heads, -1)
        drawn = torch.rand(per_head.shape, generator=torch.Generator().manual_seed(view.layer))
        return (per_head + drawn).to(view.image_of.device)

    @staticmethod
    def _images(key: str, sizes: list[int]) -> list[tuple[frozenset[tuple[int, int]], int]]:
        from tasks.toy.known import answers_about

        about = answers_about().get(tuple(key.split(" ")[-len(sizes) :]))
        if about is None:
            raise ValueError("oracle knows the toy's test samples only, in runs of profile=toy; take random here")
        return list(zip(about, sizes, strict=True))

    @staticmethod
    def _rank(about: frozenset[tuple[int, int]], tokens: int) -> Tensor:
        """`(tokens,)`: 1 on a spot of the whole view that matters, 0 elsewhere; fine tiles show the same again."""
        from tasks.toy.known import SPOTS_PER_SIDE, token_spots

        spots = torch.from_numpy(token_spots(tokens))
        matters = torch.isin(spots, torch.tensor([row * SPOTS_PER_SIDE + column for row, column in about]))
        return (matters & (torch.arange(tokens) < SPOTS_PER_SIDE**2)).float()
