"""Attention of one new token per sample over its own slots: which kernels there are, and the choice among them.

A kernel is taken because it was tried here and gave the right numbers, not because of a version or a device's name.
"""

from __future__ import annotations

import functools
import inspect
import logging
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from plphp_core.hf import register_attention
from plphp_core.slots import SlotLayer

ATTENTION = "plphp_slots"  # what transformers is asked for while slots are attended to
LENGTHS = (1, 40, 300, 129)  # of the samples that kernels are tried on

log = logging.getLogger(__name__)

# `(batch, query_heads, head_dim)`, slots, scaling → `(batch, query_heads, head_dim)`
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
    if device.type == "cpu":
        return ("sdpa_slices",)
    return ("varlen_attn", "flash_attention_forward", "sdpa_masked")


@torch.no_grad()
def try_kernel(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, head_dim: int, query_heads: int, kv_heads: int
) -> str | None:
    """What is wrong with a kernel on random slots of LENGTHS, against fp32 attention over exact slices; None: nothing.

    Behind each sample's slots lie large numbers, so that reading one too many shows.
    """
    random = torch.Generator().manual_seed(0)
    batch, most = len(LENGTHS), max(LENGTHS)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(device, dtype)

    keys, values = (normal(batch, kv_heads, most, head_dim) for _ in range(2))
    query = normal(batch, query_heads, head_dim)
    scaling = 2 * head_dim**-0.5  # not the default, and sharp enough that every token's share matters
    layer = SlotLayer(keys, values, [length - 1 for length in LENGTHS], room=8, seen=most)
    behind = torch.arange(layer.capacity, device=device) >= layer.place[:, None]
    layer.keys[behind], layer.values[behind] = 3, 100
    layer.update(normal(batch, kv_heads, 1, head_dim), normal(batch, kv_heads, 1, head_dim))
    try:
        found = kernel.attend(query, layer, scaling)
        worst = 0.0
        for b, length in enumerate(LENGTHS):
            own = (tensor[b : b + 1, :length].float().transpose(1, 2) for tensor in (layer.keys, layer.values))
            expected = sdpa(query[b : b + 1, :, None].float(), *own, scale=scaling, enable_gqa=True)[:, :, 0]
            error = (found[b : b + 1].float() - expected).abs() / expected.abs().clamp(min=1)
            worst = max(worst, float(error.nan_to_num(float("inf")).max()))
    except Exception as error:  # whatever an untried kernel may raise: then another one is taken
        return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")
    allowed = max(4 * torch.finfo(dtype).eps, 1e-4)  # rounded weights, rounded output
    return None if worst <= allowed else f"differs from fp32 attention by {worst:.2g}, allowed {allowed:.2g}"


def slot_attention(module, query: Tensor, key: SlotLayer, value: SlotLayer, attention_mask, scaling=None, **_):
    """For transformers: `(batch, query_heads, 1, head_dim)` in, `(batch, 1, query_heads, head_dim)` out."""
    batch, query_heads, _, dim = query.shape
    kernel = choose(query.device, query.dtype, dim, query_heads, key.keys.shape[2])
    return kernel.attend(query[:, :, 0], key, scaling).reshape(batch, 1, query_heads, dim), None


# --- the kernels ------------------------------------------------------------------------------------------------------
# Each is made from dtype and head_dim; NotImplementedError or ImportError: there is no such kernel. They read lengths
# on the device only, as a CUDA graph must; `sdpa_slices` reads them on the host and is for CPUs.


def _varlen_attn(dtype: torch.dtype, head_dim: int) -> Attend:
    from torch.nn.attention import varlen  # torch ≥ 2.10

    _flash_only(dtype, head_dim)
    kernel = varlen.varlen_attn
    accepted = inspect.signature(kernel).parameters
    if "seqused_k" not in accepted:
        raise NotImplementedError(f"torch {torch.__version__} has it without seqused_k")
    more = {"enable_gqa": True} if "enable_gqa" in accepted else {}

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        keys, values = layer.keys.flatten(0, 1), layer.values.flatten(0, 1)
        starts = (layer.query_starts, layer.key_starts)
        return kernel(query, keys, values, *starts, 1, layer.capacity, scale=scaling, seqused_k=layer.used, **more)

    return attend


def _flash_attention_forward(dtype: torch.dtype, head_dim: int) -> Attend:
    """What `varlen_attn` calls; it took `seqused_k` releases before."""
    _flash_only(dtype, head_dim)
    kernel = torch.ops.aten._flash_attention_forward
    if "seqused_k" not in {argument.name for argument in kernel.default._schema.arguments}:
        raise NotImplementedError(f"torch {torch.__version__} has it without seqused_k")

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        keys, values = layer.keys.flatten(0, 1), layer.values.flatten(0, 1)
        starts = (layer.query_starts, layer.key_starts)
        dropout, causal, debug = 0.0, False, False
        options = {"scale": scaling, "seqused_k": layer.used}
        return kernel(query, keys, values, *starts, 1, layer.capacity, dropout, causal, debug, **options)[0]

    return attend


def _flash_only(dtype: torch.dtype, head_dim: int) -> None:
    if dtype not in (torch.float16, torch.bfloat16):
        raise NotImplementedError(f"is for float16 and bfloat16, not {dtype}")
    if head_dim > 256 or head_dim % 8:
        raise NotImplementedError(f"is for head_dim up to 256 and divisible by 8, not {head_dim}")


def _sdpa_masked(dtype: torch.dtype, head_dim: int) -> Attend:
    """All slots, those behind a sample's length masked."""

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        visible = torch.arange(layer.capacity, device=query.device) < layer.used[:, None]
        keys, values = layer.keys.transpose(1, 2), layer.values.transpose(1, 2)
        mask = visible[:, None, None]
        return sdpa(_grouped(query, layer), keys, values, attn_mask=mask, scale=scaling).reshape(query.shape)

    return attend


def _sdpa_slices(dtype: torch.dtype, head_dim: int) -> Attend:
    """Exact slices: nothing but a sample's own slots is read."""

    def attend(query: Tensor, layer: SlotLayer, scaling: float | None) -> Tensor:
        rows, lengths = _grouped(query, layer), [length + 1 for length in layer.lengths]
        keys, values = layer.keys.transpose(1, 2), layer.values.transpose(1, 2)
        if len(set(lengths)) == 1:
            length = lengths[0]
            return sdpa(rows, keys[:, :, :length], values[:, :, :length], scale=scaling).reshape(query.shape)
        outs = [
            sdpa(rows[b : b + 1], keys[b : b + 1, :, :length], values[b : b + 1, :, :length], scale=scaling)
            for b, length in enumerate(lengths)
        ]
        return torch.cat(outs).reshape(query.shape)

    return attend


def _grouped(query: Tensor, layer: SlotLayer) -> Tensor:
    """The query heads of a group as rows of one query, so that every key is read once, not once per query head."""
    batch, query_heads, dim = query.shape
    kv_heads = layer.keys.shape[2]
    return query.reshape(batch, kv_heads, query_heads // kv_heads, dim)


KERNELS: dict[str, Callable[[torch.dtype, int], Attend]] = {
    "varlen_attn": _varlen_attn,
    "flash_attention_forward": _flash_attention_forward,
    "sdpa_masked": _sdpa_masked,
    "sdpa_slices": _sdpa_slices,
}

register_attention(ATTENTION, slot_attention)
