"""Where a benchmark's models, prompts and prefilled caches come from: random weights, or a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.decode_backends import random_cache
from plphp_core.bench.decoder_shapes import DecoderShape, build, floor_weight_bytes, prompts, shape_named, shape_of
from plphp_core.bench.forced_retention import plan_lengths, planned_method
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.fast_generate import prefill
from plphp_core.families import get_family
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method, make_method
from plphp_core.records.errors import UserError


@dataclass(eq=False)
class PrefilledState:
    """Everything as it is after a prefill.

    Attributes:
        lengths: tokens kept, `[layer][sample]`.
        seen: prompt tokens.
        vision: vision tokens of a prompt.
        position: of the next token.
        reported: bytes of keys and values that the plan or the trace names.
        retention: kept share of vision tokens, mean over layers and samples.
    """

    cache: Cache
    lengths: list[list[int]]
    seen: int
    vision: int
    tokens: Tensor
    position: Tensor | None
    reported: int
    retention: float


class RandomSource:
    """A shape with random weights; the retention is forced by a plan, keys and values are random."""

    def __init__(self, name: str, bench: BenchSettings):
        self.name, self.bench, self.shape = name, bench, shape_named(name)
        self.model: nn.Module | None = None

    @property
    def model_bytes(self) -> int:
        return self.shape.parameters * self.bench.torch_dtype.itemsize

    def load(self) -> None:
        self.model = build(self.shape, self.bench.device, self.bench.torch_dtype)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a decoded token reads."""
        return floor_weight_bytes(self.model)

    def method(self, name: str, params: dict) -> Method | None:
        return planned_method(name, params)

    def images(self, vision_tokens: int) -> int:
        """Whole images with at least so many tokens, two or more: a single one would be cut into tiles."""
        return max(2, math.ceil(vision_tokens / self.shape.image_tokens))

    def lengths(self, method: Method | None, batch: int, vision_tokens: int) -> list[list[int]]:
        sizes = [self.shape.image_tokens] * self.images(vision_tokens)
        shape, bench = self.shape, self.bench
        return plan_lengths(method, shape.layers, shape.kv_heads, sizes, bench.text_tokens, batch, bench.ragged)

    def inputs(self, batch: int, vision_tokens: int) -> dict:
        """Model inputs of real prefills."""
        bench, images = self.bench, self.images(vision_tokens)
        return prompts(self.shape, batch, images, bench.text_tokens, bench.device, bench.torch_dtype)

    def state(self, method: Method | None, batch: int, vision_tokens: int) -> PrefilledState:
        bench, shape = self.bench, self.shape
        lengths = self.lengths(method, batch, vision_tokens)
        vision = self.images(vision_tokens) * shape.image_tokens
        seen = vision + bench.text_tokens
        itemsize = bench.torch_dtype.itemsize
        kept = sum(sum(layer) for layer in lengths) / (batch * shape.layers)
        rectangle = [[max(layer)] * batch for layer in lengths]  # filler takes memory too, as in `Trace.kv_bytes`
        return PrefilledState(
            cache=random_cache(shape, lengths, seen, bench.torch_dtype, bench.device),
            lengths=lengths,
            seen=seen,
            vision=vision,
            tokens=torch.arange(batch, device=bench.device),
            position=None,
            reported=kv_bytes(rectangle, shape.slot_elements * itemsize),
            retention=(kept - bench.text_tokens) / vision,
        )


class CheckpointSource:
    """A loaded model whose methods decide for themselves, on prompts of noise images."""

    def __init__(self, name: str, bench: BenchSettings):
        self.name, self.bench = name, bench
        self.family = get_family(bench.family, "plain")
        self.model: nn.Module | None = None
        self.model_bytes = 0  # known once it is loaded

    def load(self) -> None:
        bench = self.bench
        try:
            self.model, self.processor = self.family.load(bench.checkpoint, bench.revision, bench.dtype, bench.device)
        except (OSError, ValueError) as error:
            raise UserError(f"model.checkpoint={bench.checkpoint} cannot be loaded: {error}") from None
        self.shape: DecoderShape = shape_of(self.model, self.name)

    @property
    def weight_bytes(self) -> int:
        return floor_weight_bytes(self.model)

    def method(self, name: str, params: dict) -> Method | None:
        return make_method(name, **params)

    def lengths(self, method: Method | None, batch: int, vision_tokens: int) -> list[list[int]]:
        """An upper bound: what a prefill holds before anything is pruned."""
        return [[self.inputs(batch, vision_tokens)["input_ids"].shape[1]] * batch] * self.shape.layers

    def inputs(self, batch: int, vision_tokens: int) -> dict:
        """Prompts of so many equal noise images that they have at least `vision_tokens` tokens."""
        each = self._encode(1, 2)
        tokens = self.family.image_sizes(self.model, each)[0]
        return self._encode(batch, max(2, math.ceil(vision_tokens / tokens)))

    def _encode(self, batch: int, images: int) -> dict:
        from PIL import Image

        side = self.bench.image_size
        generator = torch.Generator().manual_seed(0)
        drawn = [
            [Image.fromarray(torch.randint(0, 256, (side, side, 3), generator=generator).byte().numpy())] * images
            for _ in range(batch)
        ]
        text = self.family.prompt("<image>" * images + "\nDescribe the images.", images)
        encoded = self.family.encode(self.processor, [text] * batch, [self.family.images(sample) for sample in drawn])
        found = {}
        for name, value in encoded.items():
            if isinstance(value, Tensor):
                found[name] = value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
        return found

    @torch.inference_mode()
    def state(self, method: Method | None, batch: int, vision_tokens: int) -> PrefilledState:
        inputs = self.inputs(batch, vision_tokens)
        with prune(self.model, method, record_attention=False) as trace:
            logits, cache, position = prefill(self.model, inputs)
        return PrefilledState(
            cache=cache,
            lengths=[list(layer.counts) for layer in trace.layers],
            seen=inputs["input_ids"].shape[1],
            vision=max(trace.prompt.vision_counts),
            tokens=logits.float().argmax(-1),
            position=position,
            reported=sum(trace.kv_bytes),
            retention=float(trace.retention.mean()),
        )


def source(name: str, bench: BenchSettings) -> RandomSource | CheckpointSource:
    """The source of the model called `name`, not loaded yet."""
    return CheckpointSource(name, bench) if bench.checkpoint else RandomSource(name, bench)
