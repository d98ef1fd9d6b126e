"""One prefill under a method: the tokens still in the stream, and what each layer keeps of them."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plphp_core.pruning.attention import last_row, mean_row, rotate
from plphp_core.pruning.cache import PrunedLayer
from plphp_core.pruning.hf import Cache, DynamicLayer, LayerInputs
from plphp_core.pruning.method import LayerView, Method
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import Selection, SelectionCheck, gather_index
from plphp_core.pruning.trace import LayerRecord, Trace
from plphp_core.pruning.validation import require


@dataclass(eq=False)
class Stream:
    """Tokens in the residual stream from some layer on, and the tensors that go with them.

    Attributes:
        tokens: long, `(batch, n)`, prompt position of each; −1 for filler.
        image_of, valid: as in `Prompt`, for these tokens; filler is, like padding, not valid.
        counts: valid tokens per sample.
        filled: whether any is filler.
        inputs: decoder-layer arguments that replace those of the full prompt; None while nothing is withdrawn.
    """

    tokens: Tensor
    image_of: Tensor
    valid: Tensor
    counts: tuple[int, ...]
    filled: bool
    inputs: LayerInputs | None

    def on(self, device: torch.device) -> "Stream":
        """The same on the device of the layer being run."""
        if self.tokens.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "image_of", "valid")}
        return dataclasses.replace(self, **moved)


class Prefill:
    """State of one forward pass that prefills a batch of prompts, from before layer 0 to after the last layer."""

    def __init__(
        self, prompt: Prompt, method: Method | None, trace: Trace, num_layers: int, record_attention: bool = True
    ):
        self.prompt, self.method, self.trace, self.num_layers = prompt, method, trace, num_layers
        self.record_attention = record_attention  # γ of every layer, not only of those the method asks for
        self.query: Tensor | None = None  # last projected query rows of the layer being run
        self.withdrawn: Selection | None = None  # decided after a layer, carried out before the next
        self.added: list[Tensor] = []  # features that join the outputs of the layers to come, see Family.added_features
        batch, length = prompt.image_of.shape
        device = prompt.image_of.device
        self.stream = Stream(
            tokens=torch.arange(length, device=device).expand(batch, -1),
            image_of=prompt.image_of,
            valid=prompt.valid,
            counts=tuple(length - padding for padding in prompt.padding),
            filled=False,
            inputs=None,
        )
        self.check = SelectionCheck(method)
        trace.start(prompt)

    @property
    def has_vision(self) -> bool:
        return any(self.prompt.vision_counts)

    # --- before a layer --------------------------------------------------------------------------------------------

    def enter_layer(self, hidden: Tensor, kwargs: dict[str, Any], flash: bool) -> tuple[Tensor, dict[str, Any]]:
        """Hidden states and arguments of the next decoder layer, shortened if tokens were withdrawn."""
        if self.added and self.trace.layers:  # the layer before has just returned
            features = self.added.pop(0).to(hidden.device, hidden.dtype)
            tokens = self.stream.tokens.clamp(min=0).to(hidden.device)
            hidden = hidden + features.gather(1, tokens[..., None].expand(-1, -1, features.shape[-1]))
        if self.withdrawn is not None:
            hidden = self._shorten(self.withdrawn, hidden, self.stream.inputs or LayerInputs.of(kwargs), flash)
            self.withdrawn = None
        return hidden, kwargs if self.stream.inputs is None else self.stream.inputs.over(kwargs)

    def _shorten(self, selection: Selection, hidden: Tensor, inputs: LayerInputs, flash: bool) -> Tensor:
        old = self.stream
        index, filler = gather_index(selection.mask, selection.counts)
        empty = torch.zeros_like(index, dtype=torch.bool) if filler is None else filler

        def take(tensor: Tensor, dim: int, index: Tensor = index) -> Tensor:
            """Gather tokens along `dim`; the batch is the dimension before it, possibly broadcast."""
            index = index.to(tensor.device)
            shape = [1] * tensor.ndim
            shape[dim - 1], shape[dim] = index.shape
            target = list(tensor.shape)
            target[dim - 1], target[dim] = index.shape
            source = list(tensor.shape)
            source[dim - 1] = len(index)
            return tensor.expand(source).gather(dim, index.view(shape).expand(target))

        # FlashAttention takes positions with gaps for several packed sequences (transformers' _is_packed_sequence);
        # nothing but that check reads them behind the rotary tables.
        ids = None if flash or inputs.position_ids is None else take(inputs.position_ids, inputs.position_ids.ndim - 1)
        self.stream = Stream(
            tokens=take(old.tokens, 1).masked_fill(empty, -1),
            image_of=take(old.image_of, 1).masked_fill(empty, -1),
            valid=take(old.valid, 1) & ~empty,
            counts=selection.counts,
            filled=filler is not None,
            inputs=LayerInputs(
                position_embeddings=tuple(take(table, table.ndim - 2) for table in inputs.position_embeddings),
                attention_mask=_shorten_mask(inputs.attention_mask, index, filler, flash),
                position_ids=ids,
            ),
        )
        return take(hidden, 1)

    # --- after a layer's attention ---------------------------------------------------------------------------------

    def leave_attention(
        self, layer: int, attention: nn.Module, cache: Cache, position_embeddings: tuple[Tensor, Tensor] | None
    ) -> None:
        """Score, record, compress this layer's cache and decide what goes on to the next layer."""
        stored: DynamicLayer = cache.layers[layer]
        self.stream = self.stream.on(stored.keys.device)  # a model split over devices
        view = self._view(layer, attention, stored.keys, position_embeddings) if self.has_vision else None
        self.query = None
        cache.layers[layer] = self.apply_method(layer, stored, view)

    def apply_method(self, layer: int, stored: DynamicLayer, view: LayerView | None) -> DynamicLayer:
        """What the cache holds of a layer from now on: `stored` itself where nothing goes. Adds to the trace.

        Args:
            stored: the layer as its attention left it; never changed.
            view: what the method may look at; None for prompts without images.
        """
        keys, values = stored.keys, stored.values
        gamma = torch.zeros(len(keys), device=keys.device)
        vision: tuple[float, ...] = self.vision_counts
        kept, counts, filled = self.stream.tokens[:, None], self.stream.counts, self.stream.filled
        selection = None
        if view is not None:
            if self.method is not None:
                selection = self._valid_only(self.check(self.method.compress(layer, view), view, layer))
                if layer + 1 < self.num_layers:
                    found = self.check(self.method.withdraw(layer + 1, view), view, layer + 1, withdraws=True)
                    self.withdrawn = self._valid_only(found)
            gamma = view.vision_attention if self.record_attention or view.scored else gamma + float("nan")
        if selection is not None:
            index, filler = gather_index(selection.mask, selection.counts)
            kept = self.stream.tokens[:, None].expand(-1, keys.shape[1], -1).gather(-1, index)
            kept = kept if filler is None else kept.masked_fill(filler[:, None], -1)
            counts, filled = selection.counts, filled or filler is not None
            vision = self._vision_among(selection)
            keys, values = _take_slots(index, keys, values)
        kept = kept.int()
        self.trace.layers.append(
            LayerRecord(
                tokens=kept,
                counts=counts,
                nbytes=sum(tensor.untyped_storage().nbytes() for tensor in (keys, values)),
                slot_bytes=2 * keys.shape[1] * keys.shape[3] * keys.element_size(),
                kv_heads=keys.shape[1],
                vision_attention=gamma,
                vision_counts=vision,
            )
        )
        length = self.prompt.image_of.shape[1]
        if not filled and keys.shape[2] == length:
            return stored
        every_head = kept.expand(-1, keys.shape[1], -1)
        window = getattr(stored, "sliding_window", None)
        return PrunedLayer(keys, values, every_head, length, filled, window)

    @property
    def vision_counts(self) -> tuple[int, ...]:
        """Vision tokens in the stream, per sample."""
        if self.method is None or not self.method.evicts_text:
            return self._beside_text(self.stream.counts)
        return tuple((self.stream.image_of >= 0).sum(-1).tolist())

    def _vision_among(self, selection: Selection) -> tuple[float, ...]:
        """Vision tokens of a layer's slots, per sample."""
        if self.method is None or not self.method.evicts_text:
            return self._beside_text(selection.counts)
        shown = selection.mask & (self.stream.image_of >= 0)[:, None]
        return tuple(shown.sum(-1).float().mean(-1).tolist())

    def _beside_text(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Without a look at the device: all text is there."""
        return tuple(count - text for count, text in zip(counts, self.prompt.text_counts, strict=True))

    def _valid_only(self, selection: Selection | None) -> Selection | None:
        """Padding and filler go too: in a batch they would hold the rectangle at the longest prompt's length."""
        if selection is None or self._whole:
            return selection
        valid = self.stream.valid if selection.mask.ndim == 2 else self.stream.valid[:, None]
        invalid = [self.stream.tokens.shape[1] - count for count in self.stream.counts]
        counts = tuple(count - n for count, n in zip(selection.counts, invalid, strict=True))
        return Selection(selection.mask & valid, counts)

    @property
    def _whole(self) -> bool:
        """Whether the stream holds neither padding nor filler."""
        return min(self.stream.counts) == self.stream.tokens.shape[1]

    def _view(
        self, layer: int, attention: nn.Module, keys: Tensor, position_embeddings: tuple[Tensor, Tensor] | None
    ) -> LayerView:
        projected, valid, scaling = self.query, self.stream.valid, attention.scaling
        if projected is None or position_embeddings is None:
            raise ValueError(f"layer {layer}: q_proj was not called, or without rotary tables: no query to score with")
        cos, sin = (table[..., -projected.shape[1] :, :] for table in position_embeddings)
        visible = None if self._whole else valid

        def query() -> Tensor:  # not rotated for methods that do not look
            return rotate(attention, projected, cos, sin)

        def mean() -> Tensor:
            require(projected.shape[1] == keys.shape[2], "mean_row reads all query rows: set query_rows = None")
            return mean_row(query(), keys, valid, scaling)

        return LayerView(
            layer=layer,
            num_layers=self.num_layers,
            kv_heads=keys.shape[1],
            image_of=self.stream.image_of,
            valid=valid,
            image_sizes=self.prompt.image_sizes,
            vision_counts=self.vision_counts,
            row=lambda: last_row(query()[:, :, -1:], keys, visible, scaling),
            mean_row=mean,
        )


def _take_slots(index: Tensor, *stored: Tensor) -> list[Tensor]:
    """Slots `index` `(batch, kv_heads, n)` of keys and values `(batch, kv_heads, slots, head_dim)`.

    By whole rows, since `gather` copies number by number: on a CPU ten times slower.
    """
    batch, heads, slots, dim = stored[0].shape
    first = torch.arange(0, batch * heads * slots, slots, device=index.device).view(batch, heads, 1)
    rows = (first + index).flatten()
    return [tensor.reshape(-1, dim).index_select(0, rows).view(batch, heads, -1, dim) for tensor in stored]


def _shorten_mask(mask: Tensor | None, index: Tensor, filler: Tensor | None, flash: bool) -> Tensor | None:
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
