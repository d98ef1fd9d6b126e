"""Where a benchmark's models, prompts and prefilled caches come from: random weights, or a checkpoint."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.decode_backends import PrefilledState, random_cache
from plphp_core.bench.decoder_shapes import DecoderShape, build, prompts, shape_named, shape_of
from plphp_core.bench.forced_retention import checked_method, forced_lengths, forced_method
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.fast_generate import prefill
from plphp_core.families import get_family
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method
from plphp_core.records.errors import UserError


class _Loadable:
    """What has a `model` once `load()` was called."""

    _model: nn.Module | None = None

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> nn.Module:
        if self._model is None:
            raise RuntimeError("load() comes first")
        return self._model


class RandomModel(_Loadable):
    """A shape with random weights; the retention is forced, keys and values are random."""

    def __init__(self, name: str, bench: BenchSettings):
        self.name, self.bench, self.shape = name, bench, shape_named(name)

    @property
    def model_bytes(self) -> int:
        return self.shape.parameters * self.bench.torch_dtype.itemsize

    def load(self) -> None:
        self._model = build(self.shape, self.bench.device, self.bench.torch_dtype)

    def method(self, name: str, params: dict) -> Method | None:
        return forced_method(name, params)

    def images(self, vision_tokens: int) -> int:
        """Whole images with at least so many tokens, two or more: a single one would be cut into tiles."""
        return max(2, math.ceil(vision_tokens / self.shape.image_tokens))

    def lengths(self, method: Method | None, batch: int, vision_tokens: int) -> list[list[int]]:
        """Tokens kept after a prefill, `[layer][sample]`."""
        sizes = [self.shape.image_tokens] * self.images(vision_tokens)
        of_sample = forced_lengths(method, self.shape.layers, self.shape.kv_heads, sizes, self.bench.text_tokens)
        return [[tokens] * batch for tokens in of_sample]

    def inputs(self, batch: int, vision_tokens: int) -> dict:
        """Model inputs of real prefills."""
        bench, images = self.bench, self.images(vision_tokens)
        return prompts(self.shape, batch, images, bench.text_tokens, bench.device, bench.torch_dtype)

    def state(self, method: Method | None, batch: int, vision_tokens: int) -> PrefilledState:
        """As after a prefill, without one."""
        bench, shape = self.bench, self.shape
        lengths = self.lengths(method, batch, vision_tokens)
        of_sample = [layer[0] for layer in lengths]
        vision = self.images(vision_tokens) * shape.image_tokens
        seen = vision + bench.text_tokens
        return PrefilledState(
            cache=random_cache(shape, of_sample, batch, seen, bench.torch_dtype, bench.device),
            lengths=lengths,
            seen=seen,
            vision=vision,
            tokens=torch.arange(batch, device=bench.device),
            position=None,
            reported=kv_bytes(lengths, shape.slot_elements * bench.torch_dtype.itemsize),
            retention=(sum(of_sample) / shape.layers - bench.text_tokens) / vision,
        )


class CheckpointModel(_Loadable):
    """A loaded model whose methods decide for themselves, on prompts of noise images."""

    def __init__(self, name: str, bench: BenchSettings):
        self.name, self.bench = name, bench
        self.family = get_family(bench.family, "plain")
        self.model_bytes = 0  # known once it is loaded

    def load(self) -> None:
        bench = self.bench
        try:
            self._model, self.processor = self.family.load(bench.checkpoint, bench.revision, bench.dtype, bench.device)
        except (OSError, ValueError) as error:
            raise UserError(f"model.checkpoint={bench.checkpoint} cannot be loaded: {error}") from None
        self.shape: DecoderShape = shape_of(self.model, self.name)

    def method(self, name: str, params: dict) -> Method | None:
        return checked_method(name, params)

    def lengths(self, method: Method | None, batch: int, vision_tokens: int) -> list[list[int]]:
        """An upper bound: what a prefill holds before anything is pruned."""
        return [[self.inputs(batch, vision_tokens)["input_ids"].shape[1]] * batch] * self.shape.layers

    def inputs(self, batch: int, vision_tokens: int) -> dict:
        """Prompts of so many equal noise images that they have at least `vision_tokens` tokens."""
        tokens = self.family.image_sizes(self.model, self._encode(1, 2))[0]
        return self._encode(batch, max(2, math.ceil(vision_tokens / tokens)))

    def _encode(self, batch: int, images: int) -> dict:
        from PIL import Image

        side = self.bench.image_size
        generator = torch.Generator().manual_seed(0)
        noise = [torch.randint(0, 256, (side, side, 3), generator=generator).byte().numpy() for _ in range(batch)]
        drawn = [self.family.images([Image.fromarray(pixels)] * images) for pixels in noise]
        text = self.family.prompt("<image>" * images + "\nDescribe the images.", images)
        encoded = self.family.encode(self.processor, [text] * batch, drawn)
        tensors = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        dtype = self.model.dtype
        return {
            name: value.to(self.model.device, dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }

    @torch.inference_mode()
    def state(self, method: Method | None, batch: int, vision_tokens: int) -> PrefilledState:
        """After a real prefill."""
        inputs = self.inputs(batch, vision_tokens)
        with prune(self.model, method, record_attention=False) as trace:
            logits, cache, position = prefill(self.model, inputs)
        return PrefilledState(
            cache=cache,
            lengths=[list(layer.counts) for layer in trace.layers],
            seen=inputs["input_ids"].shape[1],
            vision=max(sum(map(len, images)) for images in trace.images),
            tokens=logits.float().argmax(-1),
            position=position,
            reported=sum(trace.kv_bytes),
            retention=float(trace.retention.mean()),
        )


BenchModel = RandomModel | CheckpointModel


def bench_model(name: str, bench: BenchSettings) -> BenchModel:
    """The model called `name`, not loaded yet."""
    return CheckpointModel(name, bench) if bench.checkpoint else RandomModel(name, bench)
