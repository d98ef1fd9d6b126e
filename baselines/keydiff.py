"""KeyDiff: the keys that differ most from the others (arXiv 2504.15364). No attention is read."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from baselines.budgeted import Budgeted
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class KeyDiff(Budgeted):
    """Per KV head, the tokens whose key has the smallest cosine with the mean of all unit keys.

    https://arxiv.org/abs/2504.15364, once over the whole prompt, keys as cached, as kvpress does at 8bb29b9; the paper
    goes block by block.
    """

    name: ClassVar[str] = "keydiff"

    def scores(self, view: LayerView) -> Tensor:
        keys, valid = view.keys.float(), view.valid[:, None, :, None]
        mean = (normalize(keys, dim=-1) * valid).sum(2, keepdim=True) / valid.sum(2, keepdim=True)
        return -cosine_similarity(keys, mean, dim=-1)
