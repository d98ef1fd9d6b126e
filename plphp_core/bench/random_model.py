"""A benchmark's model: a real shape with random weights, its prompts, and caches as after a prefill."""

from __future__ import annotations

import math

import torch
from torch import nn

from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.decode_backends import PrefilledState, random_cache
from plphp_core.bench.decoder_shapes import build, prompts, shape_named
from plphp_core.bench.forced_retention import forced_lengths, forced_prefill
from plphp_core.bench.memory_estimate import available_bytes
from plphp_core.bench.roofline import kv_bytes
from plphp_core.pruning.method import Method


class RandomModel:
    """A shape with random weights; the retention is forced, keys and values are random. Not built before `load()`."""

    def __init__(self, name: str, bench: BenchSettings):
        self.name, self.bench, self.shape = name, bench, shape_named(name)
        self._model: nn.Module | None = None

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> nn.Module:
        if self._model is None:
            raise RuntimeError("load() comes first")
        return self._model

    @property
    def weight_bytes(self) -> int:
        return self.shape.parameters * self.bench.torch_dtype.itemsize

    @property
    def available(self) -> float:
        """Bytes that may still be allocated."""
        limit = self.bench.memory_gb
        return available_bytes(self.bench.device, limit * 1e9 if limit else None)

    def load(self) -> None:
        self._model = build(self.shape, self.bench.device, self.bench.torch_dtype)

    def row(self, case: BenchCase) -> dict:
        """What a row begins with: the case, and the tokens of its prompts."""
        vision = self.images(case.vision_tokens) * self.shape.image_tokens
        return {
            "model": case.model,
            "backend": case.backend,
            "method": "none" if case.method is None else case.method.name,
            "params": case.params,
            "batch": case.batch,
            "vision_tokens": vision,
            "prompt_tokens": vision + self.bench.text_tokens,
            "status": "ok",
        }

    def images(self, vision_tokens: int) -> int:
        """Whole images with at least so many tokens, two or more: a single one would be cut into tiles."""
        return max(2, math.ceil(vision_tokens / self.shape.image_tokens))

    def lengths(self, method: Method | None, batch: int, vision_tokens: int) -> list[list[int]]:
        """Tokens kept after a prefill, `[layer][sample]`."""
        of_sample = forced_lengths(method, self.shape, self.images(vision_tokens), self.bench.text_tokens)
        return [[tokens] * batch for tokens in of_sample]

    def entering(self, method: Method | None, vision_tokens: int) -> list[int]:
        """Tokens of one prompt that come into each layer."""
        layers = forced_prefill(method, self.shape, self.images(vision_tokens), self.bench.text_tokens)
        return [layer.entered[0] for layer in layers]

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
            tokens=torch.arange(batch, device=bench.device),
            kv_bytes=kv_bytes(lengths, shape.slot_elements * bench.torch_dtype.itemsize),
            retention=(sum(of_sample) / shape.layers - bench.text_tokens) / vision,
        )
