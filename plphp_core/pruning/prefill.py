"""One prefill under a method: the tokens still in the stream, and what each layer keeps of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plphp_core.pruning.attention import coming_last_row, rotate
from plphp_core.pruning.cache import PrunedLayer, RaggedLayer
from plphp_core.pruning.encode_view import EncodeView
from plphp_core.pruning.hf import Cache, DynamicLayer, LayerInputs
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import (
    Counts,
    Selection,
    SelectionCheck,
    Written,
    gather_index,
    head_counts,
    is_ragged,
    sample_counts,
    slot_rows,
)
from plphp_core.pruning.stream import Stream, take
from plphp_core.pruning.trace import LayerRecord, Trace
from plphp_core.pruning.validation import require
from plphp_core.pruning.view import EntryView, LayerView, memo, rows_to_hold

# On a CPU a small operation between two layers waits for what their large products have pushed out of the processor's
# caches: for several layers in one go it takes a quarter less (docs/performance.md). So many hold all a little longer.
LAYERS_AT_ONCE = 4


class Prefill:
    """State of one forward pass that prefills a batch of prompts, from before layer 0 to after the last layer."""

    def __init__(
        self, prompt: Prompt, method: Method | None, trace: Trace, num_layers: int, record_attention: bool = True
    ):
        self.prompt, self.method, self.trace, self.num_layers = prompt, method, trace, num_layers
        self.record_attention = record_attention  # γ of every layer, not only of those the method asks for
        self.query_rows = rows_to_hold(1 if method is None else method.query_rows, prompt)
        self.query: Tensor | None = None  # last projected query rows of the layer being run
        self.observed: list[Any] = []  # by a method that decides after the last layer
        self.undecided: list[tuple[Stream, Tensor]] = []  # tokens and γ of the layers that are to be decided then
        self.waiting: list[tuple[int, LayerView | None]] = []  # layers that have attended, see LAYERS_AT_ONCE
        self.attended: LayerView | None = None  # the layer that has just attended, for a method that withdraws
        self.encode_view: Callable[[Tensor], EncodeView] | None = None  # at the images, for a method that encodes
        self.embedded: Tensor | None = None  # states that entered layer 0, for a method that reads them
        self.removed: tuple[list[int], Tensor] | None = None  # one tensor for all layers of a stage, see `_removed`
        self.merged: Tensor | None = None  # `(batch, prompt_length)` bool: tokens that others were merged into
        self.added: list[Tensor] = []  # features that join the outputs of the layers to come, see Family.added_features
        batch, length = prompt.image_of.shape
        device = prompt.image_of.device
        self.stream = Stream(
            tokens=torch.arange(length, device=device).expand(batch, -1),
            image_of=prompt.image_of,
            valid=prompt.valid,
            counts=tuple(length - padding for padding in prompt.padding),
            filled=False,
            counted=prompt.valid if self.renumbers else None,
        )
        self.check = SelectionCheck(method)
        trace.start(prompt)

    @property
    def has_vision(self) -> bool:
        return any(self.prompt.vision_counts)

    # --- before a layer --------------------------------------------------------------------------------------------

    def concerns(self, layer: int) -> bool:
        """Whether there is anything to do before this layer."""
        embeds = layer == 0 and self.method is not None and self.method.reads_embeddings and self.has_vision
        return embeds or self.decides(layer) or self.stream.withdrawn or bool(self.added)

    def decides(self, layer: int) -> bool:
        """Whether the method decides here which tokens go on."""
        return self.attended is not None or (layer == 0 and self.encode_view is not None and self.has_vision)

    def enter_layer(
        self, decoder: nn.Module, layer: int, hidden: Tensor, kwargs: dict[str, Any], flash: bool
    ) -> tuple[Tensor, dict[str, Any]]:
        """Hidden states and arguments of a decoder layer, shortened if tokens are withdrawn here or were before."""
        if layer == 0 and self.method is not None and self.method.reads_embeddings:
            self.embedded = hidden.detach()
        if layer == 0 and self.decides(layer):
            hidden = self._encode(hidden)
        if self.added and layer > 0:  # the layer before has just returned
            features = self.added.pop(0).to(hidden.device, hidden.dtype)
            tokens = self.stream.tokens.clamp(min=0).to(hidden.device)
            hidden = hidden + features.gather(1, tokens[..., None].expand(-1, -1, features.shape[-1]))
        if self.attended is not None:
            with torch.no_grad():
                selection = self._withdraw(decoder, layer, self.attended, hidden, LayerInputs.of(kwargs))
            self.attended = None
            if selection is not None:
                hidden = self._shorten(selection, hidden)
        return hidden, self.stream.given(kwargs, flash).over(kwargs) if self.stream.withdrawn else kwargs

    def _encode(self, hidden: Tensor) -> Tensor:
        """The states that enter the first layer, of the tokens that the method keeps."""
        assert self.method is not None and self.encode_view is not None
        self.stream = self.stream.on(hidden.device)
        with torch.no_grad():
            found = self.check(self.method.encode(self.encode_view(hidden)), self.stream, 0, 0, withdraws=True)
        selection = self._valid_only(found, self.stream)
        return hidden if selection is None else self._shorten(selection, hidden)

    def _withdraw(
        self, decoder: nn.Module, layer: int, left: LayerView, hidden: Tensor, inputs: LayerInputs
    ) -> Selection | None:
        """Which tokens go on, by the method; None: all of them. `inputs` are the layer's for the whole prompt."""
        block, stream = decoder.layers[layer], self.stream
        device = left.keys.device

        def coming_row() -> Tensor:
            here = next(block.parameters()).device  # of a model split over devices
            cos, sin = (table.to(here) for table in stream.tables(inputs))
            valid = None if left.unpadded else left.valid.to(here)
            return coming_last_row(block, hidden.to(here), (cos, sin), valid).to(device)

        def final_norm(states: Tensor) -> Tensor:
            return decoder.norm(states.to(decoder.norm.weight.device)).to(states.device)

        assert self.method is not None  # else no view was kept
        entry = EntryView(
            **{field.name: getattr(left, field.name) for field in dataclasses.fields(left)},
            hidden=hidden.detach().to(device),
            tokens=stream.tokens,
            prompt=self.prompt,
            coming_row=coming_row,
            final_norm=final_norm,
            embedded=self.embedded,
        )
        found = self.check(self.method.withdraw(layer, entry), stream, left.kv_heads, layer, withdraws=True)
        if entry.scored and not self.method.allocates:
            self.trace.layers[-1].vision_attention = entry.vision_attention
        return self._valid_only(found, stream)

    def _shorten(self, selection: Selection, hidden: Tensor) -> Tensor:
        """Only `selection` stays in the stream; the hidden states of its tokens."""
        old = self.stream
        counts = sample_counts(selection.counts)
        if selection.written is not None:
            hidden = self._write(selection.written, hidden)
        index, filler = gather_index(selection.mask, counts)
        empty = torch.zeros_like(index, dtype=torch.bool) if filler is None else filler
        self.stream = Stream(
            tokens=take(old.tokens, 1, index).masked_fill(empty, -1),
            image_of=take(old.image_of, 1, index).masked_fill(empty, -1),
            valid=take(old.valid, 1, index) & ~empty,
            counts=counts,
            filled=filler is not None,
            counted=old.counted,
            withdrawn=True,
        )
        return take(hidden, 1, index)

    @property
    def renumbers(self) -> bool:
        return self.method is not None and self.method.renumbers

    def _write(self, written: Written, hidden: Tensor) -> Tensor:
        """Hidden states with new ones in some slots; what the decoder will add to these slots is merged alike."""
        tokens, slots, width = self.stream.tokens, written.slots, hidden.shape[-1]
        require(
            written.features.shape[1] == width,
            f"{self.method!r}: written.features are {written.features.shape[1]} wide, but hidden states {width}",
        )
        merged = torch.zeros_like(self.prompt.valid) if self.merged is None else self.merged
        sample, place = slots.nonzero(as_tuple=True)
        at = tokens[sample, place].to(merged.device)
        self.merged = merged.index_put((sample.to(merged.device), at), torch.ones_like(at, dtype=torch.bool))
        if written.weights is not None:
            self.added = [
                _mixed(one, tokens.to(one.device), sample.to(one.device), place.to(one.device), written.weights)
                for one in self.added
            ]
        return hidden.masked_scatter(slots[..., None].to(hidden.device), written.features.to(hidden))

    # --- after a layer's attention ---------------------------------------------------------------------------------

    def leave_attention(
        self, layer: int, attention: nn.Module, cache: Cache, position_embeddings: tuple[Tensor, Tensor] | None
    ) -> None:
        """Score, record and compress the cache, of this layer and those that wait."""
        stored: DynamicLayer = cache.layers[layer]
        self.stream = self.stream.on(stored.keys.device)  # a model split over devices
        view = self._view(layer, attention, stored, position_embeddings) if self.has_vision else None
        self.query = None
        self.waiting.append((layer, view))
        if len(self.waiting) < self._at_once(stored.keys.device) and layer + 1 < self.num_layers:
            return
        waiting, self.waiting = self.waiting, []
        for attended, seen in waiting:
            for number, kept in self.apply_method(attended, cache.layers, seen).items():
                cache.layers[number] = kept
        if self.method is not None and self.method.withdraws and layer + 1 < self.num_layers:
            self.attended = view

    def _at_once(self, device: torch.device) -> int:
        """Layers whose caches are compressed in one go."""
        alone = (
            self.method is not None and self.method.shortens
        )  # the next layer depends on this one's trace and stream
        return 1 if alone or device.type != "cpu" else LAYERS_AT_ONCE

    def apply_method(
        self, layer: int, stored: Sequence[DynamicLayer], view: LayerView | None
    ) -> dict[int, DynamicLayer]:
        """What the cache holds from now on of the layers that are decided now. Adds to the trace.

        Args:
            layer: the one that has just attended: decided now, unless the method decides about all after the last.
            stored: the cache's layers as their attention left them; never changed.
            view: what the method may look at; None for prompts without images.

        Returns:
            By number; the stored layer itself where nothing goes.
        """
        keys, method, stream = stored[layer].keys, self.method, self.stream
        selection = None
        if view is not None and method is not None:
            if method.allocates:
                self.observed.append(method.observe(layer, view))
            else:
                selection = self.check(method.compress(layer, view), stream, view.kv_heads, layer)
        if view is not None and (self.record_attention or view.scored):
            gamma = view.vision_attention
        else:
            gamma = torch.full((keys.shape[0],), 0.0 if view is None else float("nan"), device=keys.device)
        if view is None or method is None or not method.allocates:
            return {layer: self._hold(stored[layer], selection, stream, gamma)}
        self.undecided.append((stream, gamma))
        if layer + 1 < self.num_layers:
            return {}
        selections = list(method.allocate(self.observed))
        require(
            len(selections) == self.num_layers,
            f"{method!r}: allocate returned {len(selections)} selections, but the model has {self.num_layers} layers",
        )
        decided = {}
        for number, (choice, (stream, gamma)) in enumerate(zip(selections, self.undecided, strict=True)):
            choice = self.check(choice, stream, stored[number].keys.shape[1], number)
            decided[number] = self._hold(stored[number], choice, stream, gamma)
        return decided

    def _hold(self, stored: DynamicLayer, selection: Selection | None, stream: Stream, gamma: Tensor) -> DynamicLayer:
        """What is left of a layer under `selection` of the tokens in `stream`; the next line of the trace."""
        keys, values = stored.keys, stored.values
        batch, heads, _, dim = keys.shape
        length, window = self.prompt.image_of.shape[1], getattr(stored, "sliding_window", None)
        kept, filled, held = stream.tokens.int()[:, None], stream.filled, stored
        counts: Counts = stream.counts
        removed = self._removed(stream)
        vision: tuple[float, ...] = self._vision_in(stream)
        chosen = self._valid_only(selection, stream)
        if chosen is not None:
            counts, vision = chosen.counts, self._vision_among(chosen, stream)
            rows, filler = slot_rows(chosen.mask, counts)
            kept = kept.expand(-1, heads, -1).flatten().index_select(0, rows)
            # By whole rows, since `gather` copies number by number: on a CPU ten times slower.
            keys, values = (tensor.reshape(-1, dim).index_select(0, rows) for tensor in (keys, values))
        if is_ragged(counts):
            held = RaggedLayer(keys, values, kept, head_counts(counts, heads), length, window, removed)
            kept = held.tokens().int()
        elif chosen is not None:
            counts = sample_counts(counts)
            keys, values = (tensor.view(batch, heads, -1, dim) for tensor in (keys, values))
            kept = kept.view(batch, heads, -1)
            if filler is not None:
                kept, filled = kept.masked_fill(filler[:, None], -1), True
        if held is stored and (filled or keys.shape[2] != length):
            held = PrunedLayer(keys, values, kept.expand(-1, heads, -1), length, filled, window, removed)
        self.trace.layers.append(
            LayerRecord(
                tokens=kept,
                entered=tuple(stream.counts),
                counts=counts,
                nbytes=sum(tensor.untyped_storage().nbytes() for tensor in (keys, values)),
                slot_bytes=2 * heads * dim * keys.element_size(),
                kv_heads=heads,
                vision_attention=gamma,
                vision_counts=vision,
                merged=self.merged,
            )
        )
        return held

    def _removed(self, stream: Stream) -> Tensor | None:
        """Tokens withdrawn before a layer, per sample, where positions are counted without them; None: where none."""
        lost = [length - count for length, count in zip(self.prompt.lengths, stream.counts, strict=True)]
        if not self.renumbers or not any(lost):
            return None
        if self.removed is None or self.removed[0] != lost:
            self.removed = lost, torch.tensor(lost, device=stream.tokens.device)
        return self.removed[1].to(stream.tokens.device)

    def _vision_in(self, stream: Stream) -> tuple[int, ...]:
        """Vision tokens in a stream, per sample."""
        if self.method is None or not self.method.evicts_text:
            return self._beside_text(stream.counts)
        return tuple((stream.image_of >= 0).sum(-1).tolist())

    def _vision_among(self, selection: Selection, stream: Stream) -> tuple[float, ...]:
        """Vision tokens of a layer's slots, per sample; a mean over heads."""
        if self.method is None or not self.method.evicts_text:
            means = [count if isinstance(count, int) else sum(count) / len(count) for count in selection.counts]
            return self._beside_text(means)
        shown = selection.mask & (stream.image_of >= 0)[:, None]
        return tuple(shown.sum(-1).float().mean(-1).tolist())

    def _beside_text(self, counts: Sequence[Any]) -> tuple[Any, ...]:
        """Without a look at the device: all text is there."""
        return tuple(count - text for count, text in zip(counts, self.prompt.text_counts, strict=True))

    def _valid_only(self, selection: Selection | None, stream: Stream) -> Selection | None:
        """Padding and filler go too: in a batch they would hold the rectangle at the longest prompt's length."""
        tokens = stream.tokens.shape[1]
        if selection is None or min(stream.counts) == tokens:
            return selection
        valid = stream.valid if selection.mask.ndim == 2 else stream.valid[:, None]
        invalid = [tokens - count for count in stream.counts]
        counts = tuple(
            count - n if isinstance(count, int) else tuple(head - n for head in count)
            for count, n in zip(selection.counts, invalid, strict=True)
        )
        return dataclasses.replace(selection, mask=selection.mask & valid, counts=counts)

    def _view(
        self, layer: int, attention: nn.Module, stored: DynamicLayer, position_embeddings: tuple[Tensor, Tensor] | None
    ) -> LayerView:
        projected, stream = self.query, self.stream
        if projected is None or position_embeddings is None:
            raise ValueError(f"layer {layer}: q_proj was not called, or without rotary tables: no query to score with")
        vision = self._vision_in(stream)

        def rotated() -> Tensor:  # not for methods that do not look
            cos, sin = (table[..., -projected.shape[1] :, :] for table in position_embeddings)
            return rotate(attention, projected, cos, sin)

        return LayerView(
            layer=layer,
            num_layers=self.num_layers,
            keys=stored.keys,
            values=stored.values,
            image_of=stream.image_of,
            valid=stream.valid,
            image_sizes=self.prompt.image_sizes,
            vision_counts=vision,
            text_counts=tuple(count - n for count, n in zip(stream.counts, vision, strict=True)),
            post_vision=self.prompt.post_vision,
            sample_keys=self.prompt.sample_keys,
            mutual=self.prompt.mutual,
            scaling=attention.scaling,
            rotary=position_embeddings,
            rotated=rotated,
            once=memo(),
        )


def _mixed(added: Tensor, tokens: Tensor, sample: Tensor, place: Tensor, weights: Tensor) -> Tensor:
    """Features of the whole prompt, `(batch, prompt_length, hidden)`, mixed by `weights` `(slots, n)` in some slots.

    Args:
        tokens: `(batch, n)`, prompt positions of the stream's tokens, −1 for filler.
        sample, place: `(slots,)`, where in it the slots are.
    """
    held = added.gather(1, tokens.clamp(min=0)[..., None].expand(-1, -1, added.shape[-1]))[sample]
    mixed = (weights.to(added.device, torch.float32)[:, None] @ held.float())[:, 0]
    return added.index_put((sample, tokens[sample, place]), mixed.to(added.dtype))
