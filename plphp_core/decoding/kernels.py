"""Attention of one new token per sample over its own slots, or its heads' own: the kernels, and the choice among them.

A kernel is taken because it was tried here and gave the right numbers, from a CUDA graph too where steps are recorded,
not because of a version or a device's name. Its name says which backend attends: `torch.nn.attention.varlen_attn` is
not used, since from torch 2.15 on it chooses by itself, cuDNN before FlashAttention on H100-class cards, and then the
same name stands for other rounding. The operators called here are the two that it calls.
"""

from __future__ import annotations

import functools
import logging
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as sdpa

from plphp_core.decoding.slots import SlotLayer
from plphp_core.pruning.hf import register_attention

ATTENTION = "plphp_slots"  # what transformers is asked for while slots are attended to
LENGTHS = (1, 40, 300, 129)  # of the samples that kernels are tried on
GRAPH_WARM_UP = 3  # calls before a recording: libraries set themselves up at the first ones

log = logging.getLogger(__name__)

# `(segments, query_heads, head_dim)`, slots, scaling → the same; query heads are those of a segment, see `SlotLayer`.
Attend = Callable[[Tensor, SlotLayer, float | None], Tensor]


@dataclass(frozen=True)
class Kernel:
    """A way to attend to slots; `name` is what benchmarks show."""

    name: str
    attend: Attend


@functools.cache
def choose(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    query_heads: int,
    kv_heads: int,
    names: tuple[str, ...] | None = None,
) -> Kernel:
    """The first kernel that works here and agrees with fp32 attention on a small ragged batch; tried once.

    Args:
        names: of KERNELS, in order of preference; by default, those that suit the kind of device.

    Raises:
        RuntimeError: none of them does; the message says why each was not taken.
    """
    refused = []
    for name in names or _preferred(device):
        try:
            kernel = Kernel(name, KERNELS[name](dtype, head_dim))
        except (ImportError, NotImplementedError) as error:
            refused.append(f"{name}: {error}")
            log.info("attention kernel %s", refused[-1])
            continue
        problem = try_kernel(kernel, device, dtype, head_dim, query_heads, kv_heads)
        if problem is None:
            log.info("attention kernel %s: taken for %s, %s, head_dim %d", name, device, dtype, head_dim)
            return kernel
        refused.append(f"{name}: {problem}")
        log.warning("attention kernel %s: not used", refused[-1])
    raise RuntimeError(
        f"no attention kernel for {device}, {dtype}, head_dim {head_dim}, {query_heads} query heads, {kv_heads} KV "
        f"heads ({'; '.join(refused)}): use model.generate(), engine=generate"
    )


def _preferred(device: torch.device) -> tuple[str, ...]:
    """cuDNN is not among them until `scripts/gpu_check.py`, which tries all kernels, has shown what it is worth."""
    if device.type == "cpu":
        return ("sdpa_slices",)
    return ("flash_attention_forward", "sdpa_masked")


@torch.no_grad()
def try_kernel(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, head_dim: int, query_heads: int, kv_heads: int
) -> str | None:
    """What is wrong with a kernel on random slots of LENGTHS, against fp32 attention over exact slices; None: nothing.

    Behind each sample's slots lie large numbers, so that reading one too many shows. Where steps are recorded in a CUDA
    graph, so is the kernel, and the graph is replayed with other numbers and lengths at the same addresses.
    """
    random = torch.Generator().manual_seed(0)
    batch, most = len(LENGTHS), max(LENGTHS)
    if kv_heads == 1:  # as the segments of heads that hold different numbers are: of unlike capacity
        lengths = tuple(map(max, LENGTHS, LENGTHS[::-1]))
        empty = torch.zeros(sum(lengths), head_dim, device=device, dtype=dtype)
    else:
        lengths = LENGTHS
        empty = torch.zeros(batch, kv_heads, most, head_dim, device=device, dtype=dtype)
    layer = SlotLayer(empty, empty, lengths, room=8, seen=most)
    query = torch.empty(batch, query_heads, head_dim, device=device, dtype=dtype)
    scaling = 2 * head_dim**-0.5  # not the default, and sharp enough that every token's share matters
    allowed = max(4 * torch.finfo(dtype).eps, 1e-4)  # rounded weights, rounded output

    def fill(lengths: Sequence[int]) -> None:
        for tensor in (query, layer.keys, layer.values):
            tensor.copy_(torch.randn(tensor.shape, generator=random))
        layer.used.copy_(torch.tensor(lengths))
        layer.prefilled = [length - 1 for length in lengths]
        slots = torch.arange(len(layer.keys), device=device)
        segment = torch.searchsorted(layer.key_starts.long(), slots, right=True) - 1
        behind = slots - layer.key_starts[segment] >= layer.used[segment]
        layer.keys[behind], layer.values[behind] = 3, 100

    def attend() -> Tensor:
        return kernel.attend(query, layer, scaling)

    def differs(found: Tensor) -> str | None:
        worst = error_against_fp32(found, query, layer, scaling)
        return None if worst <= allowed else f"differs from fp32 attention by {worst:.2g}, allowed {allowed:.2g}"

    try:
        fill(LENGTHS)
        problem = differs(attend())
        if problem is None and _steps_are_recorded(device):
            graph, found = record(attend, device)
            fill(LENGTHS[::-1])
            graph.replay()
            problem = differs(found)
            problem = problem and f"from a CUDA graph {problem}"
        return problem
    except Exception as error:  # whatever an untried kernel may raise: then another one is taken
        return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")


def error_against_fp32(found: Tensor, query: Tensor, layer: SlotLayer, scaling: float | None) -> float:
    """The largest difference of `found` from fp32 attention over each segment's own slots; relative where above 1.

    Args:
        found, query: `(segments, query_heads, head_dim)`.
    """
    worst = 0.0
    for b, used in enumerate(layer.used.tolist()):
        slots = slice(layer.starts[b], layer.starts[b] + used)
        own = (tensor[slots].float().transpose(0, 1)[None] for tensor in (layer.keys, layer.values))
        expected = sdpa(query[b : b + 1, :, None].float(), *own, scale=scaling, enable_gqa=True)[:, :, 0]
        error = (found[b : b + 1].float() - expected).abs() / expected.abs().clamp(min=1)
        worst = max(worst, float(error.nan_to_num(float("inf")).max()))
    return worst


def _steps_are_recorded(device: torch.device) -> bool:
    """Whether `plphp_core.decoding.stepping` records its steps in a graph on this device."""
    return device.type == "cuda"


def record(call: Callable[[], Tensor], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """`call` in a CUDA graph, and what it returned: the tensor that every replay writes anew."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(GRAPH_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = call()
    return graph, out


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: SlotLayer,
    value: SlotLayer,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """For transformers: `(batch, query_heads, 1, head_dim)` in, `(batch, 1, query_heads, head_dim)` out."""
    batch, query_heads, _, dim = query.shape
    segments = len(key.prefilled)
    rows = query.reshape(segments, -1, dim)  # the query heads of a KV head lie side by side
    kernel = choose(query.device, query.dtype, dim, rows.shape[1], key.heads)
    return kernel.attend(rows, key, scaling).reshape(batch, 1, query_heads, dim), None


# --- the kernels ------------------------------------------------------------------------------------------------------
# Each is made from dtype and head_dim; NotImplementedError or ImportError: there is no such kernel. They read lengths
# on the device only, as a CUDA graph must; `sdpa_slices` reads them on the host and is for CPUs.


def _flash_attention_forward(dtype: torch.dtype, head_dim: int) -> Attend:
    """FlashAttention as torch ships it. Its operator takes `seqused_k` from torch 2.11 on, if not before."""
    operator = _over_lengths("_flash_attention_forward", dtype, head_dim)

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        dropout, causal, debug = 0.0, False, False
        return operator(*_packed(query, layer), dropout, causal, debug, scale=scaling, seqused_k=layer.used)[0]

    return attend


def _cudnn_attention_forward(dtype: torch.dtype, head_dim: int) -> Attend:
    """cuDNN's attention. Its operator takes `seqused_k` from torch 2.15 on."""
    operator = _over_lengths("_cudnn_attention_forward", dtype, head_dim)

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        query, keys, values, *lengths = _packed(query, layer)
        logsumexp, dropout, causal, debug = True, 0.0, False, False
        flags = (*lengths, logsumexp, dropout, causal, debug)
        return operator(query, keys, values, None, *flags, scale=scaling, seqused_k=layer.used)[0]

    return attend


def _over_lengths(name: str, dtype: torch.dtype, head_dim: int) -> Callable[..., Any]:
    """The ATen operator, if there is one that reads a length per sample, for this dtype and head_dim."""
    if dtype not in (torch.float16, torch.bfloat16):
        raise NotImplementedError(f"is for float16 and bfloat16, not {dtype}")
    if head_dim > 256 or head_dim % 8:
        raise NotImplementedError(f"is for head_dim up to 256 and divisible by 8, not {head_dim}")
    operator = getattr(torch.ops.aten, name).default
    if "seqused_k" not in {argument.name for argument in operator._schema.arguments}:
        raise NotImplementedError(f"torch {torch.__version__} has it without seqused_k")
    return operator


def _packed(query: Tensor, layer: SlotLayer) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int, int]:
    """Query, keys and values as one long sequence each, where each segment begins, and their longest lengths."""
    return query, layer.keys, layer.values, layer.query_starts, layer.key_starts, 1, layer.capacity


def _sdpa_masked(dtype: torch.dtype, head_dim: int) -> Attend:
    """All slots as a rectangle, those behind a segment's length masked."""

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        visible = torch.arange(layer.capacity, device=query.device) < layer.used[:, None]
        keys, values = layer.rectangle()
        mask = visible[:, None, None]
        return sdpa(_grouped(query, layer), keys, values, attn_mask=mask, scale=scaling).reshape(query.shape)

    return attend


def _sdpa_slices(dtype: torch.dtype, head_dim: int) -> Attend:
    """Exact slices: nothing but a segment's own slots is read."""

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        rows, lengths = _grouped(query, layer), [length + 1 for length in layer.lengths]
        if len(set(lengths)) == 1 and len(set(layer.capacities)) == 1:
            keys, values = (stored[:, :, : lengths[0]] for stored in layer.rectangle())
            return sdpa(rows, keys, values, scale=scaling).reshape(query.shape)
        outs = []
        for b, (start, length) in enumerate(zip(layer.starts, lengths, strict=False)):
            keys, values = (
                stored[start : start + length].transpose(0, 1)[None] for stored in (layer.keys, layer.values)
            )
            outs.append(sdpa(rows[b : b + 1], keys, values, scale=scaling))
        return torch.cat(outs).reshape(query.shape)

    return attend


def _grouped(query: Tensor, layer: SlotLayer) -> Tensor:
    """The query heads of a group as rows of one query, so that every key is read once, not once per query head."""
    segments, query_heads, dim = query.shape
    return query.reshape(segments, layer.heads, query_heads // layer.heads, dim)


KERNELS: dict[str, Callable[[torch.dtype, int], Attend]] = {
    "flash_attention_forward": _flash_attention_forward,
    "cudnn_attention_forward": _cudnn_attention_forward,
    "sdpa_masked": _sdpa_masked,
    "sdpa_slices": _sdpa_slices,
}

register_attention(ATTENTION, slot_attention)
