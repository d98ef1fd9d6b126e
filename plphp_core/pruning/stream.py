"""The tokens that are still in the residual stream, and what layers are given, shortened to them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from plphp_core.pruning.hf import LayerInputs
from plphp_core.pruning.renumbering import moved_up


@dataclass(eq=False)
class Stream:
    """Tokens in the residual stream from some layer on, and the tensors that go with them.

    Attributes:
        tokens: long, `(batch, n)`, prompt position of each; −1 for filler.
        image_of, valid: as in `Prompt`, for these tokens; filler is, like padding, not valid.
        counts: valid tokens per sample.
        filled: whether any is filler.
        counted: bool, `(batch, prompt_length)`, what is no padding in the prompt, where positions are counted without
            what has gone; None: tokens keep theirs.
        withdrawn: whether some of the prompt's tokens have gone.
        inputs: by identity, what layers are given for the whole prompt, and the same for these tokens. Decoders with
            several types of layers have as many.
    """

    tokens: Tensor
    image_of: Tensor
    valid: Tensor
    counts: tuple[int, ...]
    filled: bool
    counted: Tensor | None = None
    withdrawn: bool = False
    inputs: dict[tuple[int, ...], tuple[LayerInputs, LayerInputs]] = field(default_factory=dict)

    def on(self, device: torch.device) -> "Stream":
        """The same on the device of the layer being run."""
        if self.tokens.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "image_of", "valid")}
        return dataclasses.replace(self, **moved)

    def given(self, kwargs: dict[str, Any], flash: bool) -> LayerInputs:
        """What a layer is given for the whole prompt, for these tokens; made once per type of layer."""
        whole = LayerInputs.of(kwargs)
        key = (id(whole.position_embeddings), id(whole.attention_mask), id(whole.position_ids))
        if key not in self.inputs:
            self.inputs[key] = whole, self._shortened(whole, flash)  # `whole` too: what is freed may lend its id again
        return self.inputs[key][1]

    def _shortened(self, inputs: LayerInputs, flash: bool) -> LayerInputs:
        ids = inputs.position_ids
        index, filler = self.tokens.clamp(min=0), (self.tokens < 0 if self.filled else None)
        # FlashAttention takes positions with gaps for several packed sequences (transformers' _is_packed_sequence);
        # nothing but that check reads them behind the rotary tables.
        return LayerInputs(
            position_embeddings=self.tables(inputs),
            attention_mask=shorten_mask(inputs.attention_mask, index, filler, flash),
            position_ids=None if flash or ids is None else take(ids, ids.ndim - 1, self._places()),
        )

    def tables(self, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
        """A layer's rotary tables, cos and sin, for these tokens."""
        if not self.withdrawn:
            return inputs.position_embeddings
        places = self._places()
        cos, sin = (take(table, table.ndim - 2, places) for table in inputs.position_embeddings)
        return cos, sin

    def _places(self) -> Tensor:
        """Places in the prompt whose positions these tokens have, `(batch, n)`."""
        if self.counted is not None:
            return moved_up(self.valid, self.counted.to(self.valid.device))
        return self.tokens.clamp(min=0)


def take(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Gather tokens `(batch, n)` along `dim`; the batch is the dimension before it, possibly broadcast."""
    index = index.to(tensor.device)
    shape = [1] * tensor.ndim
    shape[dim - 1], shape[dim] = index.shape
    target = list(tensor.shape)
    target[dim - 1], target[dim] = index.shape
    source = list(tensor.shape)
    source[dim - 1] = len(index)
    return tensor.expand(source).gather(dim, index.view(shape).expand(target))


def shorten_mask(mask: Tensor | None, index: Tensor, filler: Tensor | None, flash: bool) -> Tensor | None:
    """The mask among the tokens at `index` `(batch, n)`, in the convention of `mask`; nobody sees `filler`."""
    batch, n = index.shape
    if mask is None:
        if filler is None:
            return None  # order is kept, so causal stays causal
        if flash:
            return ~filler
        causal = torch.ones(n, n, dtype=torch.bool, device=index.device).tril()
        return causal & ~filler[:, None, None]
    if mask.ndim == 2:
        short = mask.expand(batch, -1).gather(1, index)
        return short if filler is None else short & ~filler
    heads, length = mask.shape[1], mask.shape[-1]
    rows = mask.expand(batch, -1, -1, -1).gather(2, index[:, None, :, None].expand(-1, heads, -1, length))
    short = rows.gather(3, index[:, None, None].expand(-1, heads, n, -1))
    if filler is None:
        return short
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return short.masked_fill(filler[:, None, None], hidden)
