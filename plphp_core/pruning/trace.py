"""What a method did to the latest prefill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import Counts, is_ragged


@dataclass(eq=False)
class LayerRecord:
    """One layer after the prefill.

    Attributes:
        tokens: int, `(batch, kv_heads or 1, slots)`, prompt position of each slot, ascending; −1 for filler.
        entered: tokens that came into the layer, padding not counted, per sample.
        counts: slots that hold a token of the prompt, padding not counted, per sample; per sample and KV head where
            heads keep different numbers.
        nbytes: memory that keys and values occupy, whole batch.
        slot_bytes: bytes of one slot of one sample, all KV heads, key and value.
        kv_heads: KV heads.
        vision_attention: γ, `(batch,)` fp32.
        vision_counts: slots that hold a vision token, per sample; a mean over heads where they hold different numbers.
        merged: `(batch, prompt_length)` bool, tokens that others were merged into before this layer; None: none.
    """

    tokens: Tensor
    entered: tuple[int, ...]
    counts: Counts
    nbytes: int
    slot_bytes: int
    kv_heads: int
    vision_attention: Tensor
    vision_counts: tuple[float, ...]
    merged: Tensor | None = None

    def slots(self, sample: int) -> float:
        """Slots that hold a token of the sample's prompt, a mean over KV heads."""
        count = self.counts[sample]
        return count if isinstance(count, int) else sum(count) / len(count)

    def bytes_alone(self, sample: int) -> int:
        """Bytes of the sample's own slots."""
        return round(self.slots(sample) * self.kv_heads) * (self.slot_bytes // self.kv_heads)

    def bytes_held(self, sample: int) -> int:
        """The sample's share of the storage: of a rectangle an equal part, padding and filler included."""
        return self.bytes_alone(sample) if is_ragged(self.counts) else self.nbytes // len(self.counts)


@dataclass(eq=False)
class Trace:
    """The latest prefill under `prune`: what was kept and what it takes. Empty before the first one.

    Samples are rows of the model's batch: with beam search or several return sequences, each prompt has several.
    `print` shows it as a table.

    Attributes:
        missing: why there is nothing to see of the latest prefill; None where there is.
    """

    prompt: Prompt | None = None
    layers: list[LayerRecord] = field(default_factory=list)
    missing: str | None = "no prefill yet"
    _kept: list[list[Tensor | list[Tensor]]] | None = None

    def start(self, prompt: Prompt | None, missing: str | None = None) -> None:
        """Forget the prefill before and begin a new one; None: leave the trace empty, for the reason `missing`."""
        self.prompt, self.layers, self._kept, self.missing = prompt, [], None, missing

    def become(self, other: "Trace") -> None:
        """Show what `other` shows: a prefill that has come to its end."""
        self.start(other.prompt)
        self.layers = other.layers

    def __str__(self) -> str:
        if self.prompt is None or not self.layers:
            return f"nothing traced: {self.missing}"
        batch = len(self.images)
        slots = [sum(map(layer.slots, range(batch))) / batch for layer in self.layers]
        lengths, vision = self.prompt.lengths, self.prompt.vision_counts
        lines = [
            f"{'prompt' if batch == 1 else f'{batch} prompts, means'}: {sum(lengths) / batch:g} tokens, "
            f"{sum(vision) / batch:g} of them vision, {sum(map(len, self.images)) / batch:g} images",
            "layer  γ      vision kept  slots",
        ]
        for layer, (gamma, kept) in enumerate(zip(self.vision_attention.mean(0), self.retention.mean(0), strict=True)):
            lines.append(f"{layer:<5}  {gamma:.3f}  {kept:>11.1%}  {slots[layer]:g}")
        held, full = sum(self.kv_bytes), sum(self.kv_bytes_full)
        lines.append(
            f"KV cache: {held:,} of {full:,} bytes ({held / full:.1%}), all layers{' and prompts' * (batch > 1)}"
        )
        return "\n".join(lines)

    @property
    def images(self) -> list[list[Tensor]]:
        """Per sample: the prompt positions of each image, long, on the CPU."""
        return self.prompt.images if self.prompt else []

    @property
    def vision_attention(self) -> Tensor:
        """γ, `(batch, layers)`, fp32, on the CPU; NaN where `prune(record_attention=False)` left it out."""
        if not self.layers:
            return torch.empty(len(self.images), 0)
        return torch.stack([layer.vision_attention.cpu() for layer in self.layers], dim=1)

    @property
    def retention(self) -> Tensor:
        """Kept fraction of each layer's vision tokens, `(batch, layers)`, fp32; 1 where a prompt has no image."""
        return self._shares(lambda layer, sample: layer.vision_counts[sample], lambda prompt: prompt.vision_counts)

    @property
    def vision_entered(self) -> list[float]:
        """Vision tokens that came into attention, mean over layers, per sample; text comes into every layer."""
        if self.prompt is None or not self.layers:
            return []
        entered = [[layer.entered[sample] for layer in self.layers] for sample in range(len(self.images))]
        return [sum(one) / len(one) - text for one, text in zip(entered, self.prompt.text_counts, strict=True)]

    @property
    def text_retention(self) -> Tensor:
        """Kept fraction of each layer's text, `(batch, layers)`, fp32: 1 unless the method may evict text."""
        return self._shares(
            lambda layer, sample: layer.slots(sample) - layer.vision_counts[sample], lambda prompt: prompt.text_counts
        )

    def _shares(self, held: Callable[[LayerRecord, int], float], whole: Callable[[Prompt], Sequence[int]]) -> Tensor:
        """What each layer holds of each sample, as a share of the sample's `whole`; 1 where that is nothing."""
        if self.prompt is None or not self.layers:
            return torch.empty(len(self.images), 0)
        wholes = enumerate(whole(self.prompt))
        return torch.tensor([[held(layer, b) / n if n else 1.0 for layer in self.layers] for b, n in wholes])

    @property
    def kept(self) -> list[list[Tensor | list[Tensor]]]:
        """`kept[layer][sample]`: prompt positions of the vision tokens kept, `(kv_heads, kept tokens)`, ascending.

        A list of `(kept tokens,)`, one per KV head, where heads keep different numbers of them.
        """
        if self._kept is None:
            image_of = self.prompt.image_of.cpu() if self.prompt else torch.empty(0, 0)
            self._kept = [_vision_tokens(layer, image_of) for layer in self.layers]
        return self._kept

    @property
    def merged(self) -> list[list[Tensor]]:
        """`merged[layer][sample]`: of the tokens that some head kept, the prompt positions of those that stand for
        others too, since a method merged tokens into them; long, ascending.
        """
        found = []
        for layer in self.layers:
            rows = [[] for _ in self.images] if layer.merged is None else [row.nonzero()[:, 0] for row in layer.merged]
            kept = [tokens.flatten().long() for tokens in layer.tokens.cpu()]
            at = [torch.as_tensor(row, dtype=torch.long).cpu() for row in rows]
            found.append([row[torch.isin(row, own)] for row, own in zip(at, kept, strict=True)])
        return found

    @property
    def kv_bytes(self) -> list[int]:
        """Memory that the prompt's keys and values occupy, all layers, per sample: its share of the batch's storage.

        What padding and filler take is counted, since they take it; `kv_bytes_alone` leaves them out.
        """
        if self.prompt is None:
            return []
        return [sum(layer.bytes_held(b) for layer in self.layers) for b in range(len(self.images))]

    @property
    def kv_bytes_full(self) -> list[int]:
        """The same with nothing pruned."""
        length = self.prompt.image_of.shape[1] if self.prompt else 0
        return [sum(layer.slot_bytes for layer in self.layers) * length for _ in self.images]

    @property
    def kv_bytes_alone(self) -> list[int]:
        """Bytes of each sample's own slots, without padding and filler: what the sample takes in a batch of one."""
        return [sum(layer.bytes_alone(b) for layer in self.layers) for b in range(len(self.images))]

    @property
    def kv_bytes_full_alone(self) -> list[int]:
        """`kv_bytes_alone` with nothing pruned."""
        lengths = self.prompt.lengths if self.prompt else []
        return [sum(layer.slot_bytes for layer in self.layers) * length for length in lengths]


def _vision_tokens(layer: LayerRecord, image_of: Tensor) -> list[Tensor | list[Tensor]]:
    """`Trace.kept` of one layer; `image_of` as in `Prompt`, on the CPU."""
    kept: list[Tensor | list[Tensor]] = []
    for sample, tokens in enumerate(layer.tokens.cpu().long()):
        vision = (tokens >= 0) & (image_of[sample][tokens.clamp(min=0)] >= 0)
        if len(set(vision.sum(-1).tolist())) == 1:
            kept.append(tokens[vision].view(len(tokens), -1).expand(layer.kv_heads, -1))
        else:
            kept.append([head[shown] for head, shown in zip(tokens, vision, strict=True)])
    return kept
