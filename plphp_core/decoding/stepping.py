"""One token after the other through the model's own forward; on CUDA recorded once in a graph and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from plphp_core.decoding.kernels import ATTENTION, choose, record
from plphp_core.decoding.slots import SlotCache, SlotLayer
from plphp_core.families import family_of
from plphp_core.pruning.hf import AttentionCall, attending_by, cache_argument
from plphp_core.pruning.renumbering import Renumbering


def stepper(model: nn.Module, cache: SlotCache, position: Tensor) -> Stepper:
    """The stepper for the cache's device.

    Args:
        position: `position_ids` of the first token to come, `(batch, 1)`, or `(3, batch, 1)` for M-RoPE.

    Raises:
        RuntimeError: no attention kernel works here, see `plphp_core.decoding.kernels.choose`.
    """
    return (_Graph if position.is_cuda else Stepper)(model, cache, position)


class Stepper:
    """Called with tokens `(batch,)`, returns the logits `(batch, vocabulary)` of the next ones. Use within `on()`.

    The logits are valid until the next call.

    Attributes:
        kernel: name of the attention kernel.
    """

    def __init__(self, model: nn.Module, cache: SlotCache, position: Tensor):
        self.model, self.cache = model, cache
        self.position, self.first = position.clone(), position
        self.decoder = family_of(model).decoder(model)
        self.config = self.decoder.config
        self.arguments = {**cache_argument(model, cache), "use_cache": True}
        # Chosen now: trying a kernel allocates and reads results, which the recording of a graph must not.
        kernels = [choose(*kind) for kind in dict.fromkeys(map(self._kind, cache.layers))]
        self.kernel = ", ".join(dict.fromkeys(kernel.name for kernel in kernels))

    def _kind(self, layer: SlotLayer) -> tuple[torch.device, torch.dtype, int, int, int]:
        """What `choose` asks about a layer."""
        segments_of_a_sample = len(layer.prefilled) // self.position.shape[-2]
        query_heads = self.config.num_attention_heads // segments_of_a_sample
        return layer.device, layer.dtype, layer.keys.shape[2], query_heads, layer.heads

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within the block, the model attends to slots, at the positions that each layer counts."""
        renumbering = Renumbering(self.decoder)
        handles = [
            block.self_attn.register_forward_pre_hook(partial(_renumber, renumbering, layer.removed), with_kwargs=True)
            for block, layer in zip(self.decoder.layers, self.cache.layers, strict=True)
            if layer.removed is not None
        ]
        try:
            with attending_by(self.config, ATTENTION):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def __call__(self, tokens: Tensor) -> Tensor:
        logits = self._forward(tokens[:, None])
        self._advance()
        return logits

    def rewind(self) -> None:
        """Back to behind the prefill."""
        self.cache.rewind()
        self.position.copy_(self.first)

    def _forward(self, ids: Tensor) -> Tensor:
        out = self.model(input_ids=ids, position_ids=self.position, **self.arguments)
        return out.logits[:, -1]

    def _advance(self) -> None:
        self.cache.advance()
        self.position += 1


def _renumber(renumbering: Renumbering, removed: Tensor, attention: nn.Module, args: Any, kwargs: Any) -> Any:
    return args, renumbering(attention, AttentionCall.of(args, kwargs).hidden, kwargs, removed)


class _Graph(Stepper):
    """The forward recorded at the first call; input ids, position, slots, places and lengths are static buffers."""

    graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.graph is None:
            # Nothing advances here: every forward writes the same slots, and the first replay writes them for good.
            self.ids = tokens[:, None].clone()
            self.graph, self.logits = record(lambda: self._forward(self.ids), tokens.device)
        self.ids.copy_(tokens[:, None])
        self.graph.replay()
        self._advance()
        return self.logits
