"""Is it the same? Nothing pruned against no pruning, kernels against fp32, a CUDA graph against its steps called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.bench.gpu_check.gpu_evidence import GpuCheck, NotAvailableError, gpu_part
from plphp_core.bench.gpu_check.gpu_setting import GpuSetting
from plphp_core.bench.interleaved_rounds import interleaved, spread
from plphp_core.decoding import kernels
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.kernels import KERNELS, Kernel, choose, error_against_fp32, try_kernel
from plphp_core.decoding.slots import SlotCache, SlotLayer, slot_cache
from plphp_core.decoding.stepping import Stepper, stepper
from plphp_core.pruning import hf
from plphp_core.pruning.method import Method

IDENTITY_STEPS = 4  # tokens
LAYERS_TIMED = 28  # calls of a kernel in a row, as in a step

# How attention may be computed → the implementation's name for transformers, whether it is here (None: try it), and the
# block it runs in. Never a kernel from the hub: nothing is downloaded.
ATTENTION: dict[str, tuple[str, Callable[[], bool] | None, Callable[[], AbstractContextManager]]] = {
    "sdpa": ("sdpa", None, nullcontext),
    "sdpa, FlashAttention": ("sdpa", None, lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)),
    "flash_attention_2": ("flash_attention_2", is_flash_attn_2_available, nullcontext),
    "flash_attention_3": ("flash_attention_3", is_flash_attn_3_available, nullcontext),
}


@gpu_part("identity", "Identity where nothing is pruned", least=30, limit=100)
@torch.inference_mode()
def identity(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Logits of four tokens in bf16 under methods that prune nothing against those without any, bit for bit. Padded:
    two prompts, one of them padded on the left.
    """
    layers = setting.shape.layers
    methods = (None, PLPHP(r=1.0, delta_r=0.0), FastV(K=setting.bench.params["fastv"]["K"], R=0.0), VTW(K=layers))
    for name, (implementation, here, within) in ATTENTION.items():
        if here is not None and not here():
            yield {"attention": name, "found": "not available: its package is not installed"}
            continue
        for what in ("one", "padded"):
            if what == "padded" and name == "sdpa, FlashAttention":  # which takes no mask
                continue
            vision = setting.bench.vision_tokens[-1]
            inputs = setting.ragged(vision) if what == "padded" else setting.inputs(1, vision)
            with _attending(setting.model, implementation), within():
                try:
                    plain = _logits(setting.model, inputs)
                except RuntimeError as error:
                    if "No available kernel" not in str(error):
                        raise
                    yield {"attention": name, "prompts": what, "found": "not available: torch has no such kernel here"}
                    continue
                for method in methods:
                    with prune(setting.model, method):
                        found = _logits(setting.model, inputs)
                    differing = int((found != plain).sum())
                    finite = bool(found.isfinite().all())
                    yield {
                        "attention": name,
                        "prompts": what,
                        "method": str(method or "none"),
                        "logits": plain.numel(),
                        "differing": differing,
                        "found": "identical" if not differing else "different",
                    }
                    says = f"{differing} of {plain.numel()} logits differ{'' if finite else ', not all are finite'}"
                    yield GpuCheck(
                        f"identity of {method or 'none'!s} under {name}, {what}", not differing and finite, says
                    )


@contextmanager
def _attending(model, implementation: str) -> Iterator[None]:
    before = hf.implementation(model.config)
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _logits(model, inputs: dict) -> Tensor:
    """`(tokens, batch, vocabulary)`."""
    count = {"max_new_tokens": IDENTITY_STEPS, "min_new_tokens": IDENTITY_STEPS}
    out = model.generate(**inputs, **count, do_sample=False, return_dict_in_generate=True, output_logits=True)
    return torch.stack(out.logits)


@gpu_part("kernels", "Which kernel attends", least=10, limit=60)
@torch.inference_mode()
def kernel_choice(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Every kernel of the fast path over ragged slots of the real shape in bf16: the largest difference from fp32
    (error), and milliseconds of 28 calls with their quartiles, from a CUDA graph on CUDA. Right: it agrees, recorded in
    a graph too.
    """
    shape, slots, device = setting.shape, setting.sizes.slots, torch.device(setting.device)
    heads = (shape.head_dim, shape.query_heads, shape.kv_heads)
    random = torch.Generator(setting.device).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random, device=device, dtype=torch.bfloat16)

    # Of very different lengths: full, half, a quarter, next to nothing.
    lengths = [slots, slots // 2, slots // 4, 1] * 2
    keys, values = (normal(8, shape.kv_heads, slots, shape.head_dim) for _ in range(2))
    layer = SlotLayer(keys, values, lengths, room=1, seen=slots)
    layer.update(normal(8, shape.kv_heads, 1, shape.head_dim), normal(8, shape.kv_heads, 1, shape.head_dim))
    query = normal(8, shape.query_heads, shape.head_dim)
    taken = choose(device, torch.bfloat16, *heads).name
    bytes_read = LAYERS_TIMED * sum(int(used) for used in layer.used) * shape.slot_elements * 2
    rows: dict[str, dict[str, Any]] = {}
    timed = []
    for name, make in KERNELS.items():
        rows[name] = {"kernel": name, "taken": "taken" if name == taken else ""}
        row = rows[name]
        try:
            kernel = Kernel(name, make(torch.bfloat16, shape.head_dim))
        except (ImportError, NotImplementedError) as error:
            row["found"] = f"not available: {error}"
            continue
        row["found"] = try_kernel(kernel, device, torch.bfloat16, *heads) or "right"
        if row["found"] == "right":
            row["error"] = error_against_fp32(kernel.attend(query, layer, None), query, layer, None)
            timed.append(_Repeated(row, kernel, query, layer, device))
    of_each = interleaved(timed, setting.device, rounds=10, steps=3, settle=1, at_least=2, budget_s=10)
    for one, rounds in zip(timed, of_each, strict=True):
        times = spread([milliseconds for each in rounds for milliseconds in each])
        one.row |= {"ms": times.median, "q1": times.q1, "q3": times.q3, "gb_per_s": bytes_read / times.median / 1e6}
    yield from rows.values()
    allowed = 4 * torch.finfo(torch.bfloat16).eps
    difference = rows[taken].get("error")
    says = rows[taken]["found"] if difference is None else f"{taken} differs by {difference:.2g}, allowed {allowed:.2g}"
    yield GpuCheck(
        "the kernel taken agrees with fp32 at the real length", difference is not None and difference <= allowed, says
    )
    for group in (1, 2, 4, 7):  # heads that hold different numbers of tokens: one KV head to a segment
        try:
            right, says = True, f"{choose(device, torch.bfloat16, shape.head_dim, group, 1).name} is taken"
        except RuntimeError as error:
            right, says = False, str(error)
        yield GpuCheck(f"{group} query heads to a KV head with a length of its own", right, says)
    if setting.cuda and torch.cuda.get_device_capability() >= (8, 0):
        first = kernels._preferred(device)[0]
        yield GpuCheck(
            "the first choice works here", taken == first, f"{taken} is taken; {first}: {rows[first]['found']}"
        )


class _Repeated:
    """LAYERS_TIMED calls of a kernel, from one CUDA graph where there is one: what a step asks of it."""

    def __init__(self, row: dict, kernel: Kernel, query: Tensor, layer: SlotLayer, device: torch.device):
        self.row = row

        def calls() -> Tensor:
            for _ in range(LAYERS_TIMED):
                out = kernel.attend(query, layer, None)
            return out

        self.step = kernels.record(calls, device)[0].replay if device.type == "cuda" else calls
        self.step()

    def on(self) -> AbstractContextManager[None]:
        return nullcontext()

    def rewind(self) -> None:
        """Nothing grows."""


@gpu_part("graph", "CUDA graph against the same steps without", least=20, limit=60)
@torch.inference_mode()
def graph(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Greedy steps of the fast path after a real prefill of a ragged batch, from a graph and called one by one: tokens
    that are equal, and the largest difference of logits.
    """
    if not setting.cuda:
        raise NotAvailableError("there are CUDA graphs on CUDA only")
    inputs = setting.ragged(setting.bench.vision_tokens[-1])
    for method in setting.methods():
        eager, kernel = _steps(setting, inputs, method, Stepper)
        recorded, _ = _steps(setting, inputs, method, stepper)
        same = eager.argmax(-1) == recorded.argmax(-1)
        difference = float((eager - recorded).abs().max())
        row = {"method": str(method or "none"), "kernel": kernel, "tokens": same.numel(), "equal": int(same.sum())}
        yield row | {"largest": difference}
        found = f"{row['equal']} of {row['tokens']} tokens are the same, logits differ by up to {difference:.2g}"
        yield GpuCheck(f"the same tokens from a CUDA graph, {method or 'none'!s}", bool(same.all()), found)


def _steps(
    setting: GpuSetting, inputs: dict, method: Method | None, make: Callable[..., Stepper]
) -> tuple[Tensor, str]:
    """Logits `(tokens, batch, vocabulary)` fp32 of greedy steps after a prefill of `inputs`, and the kernel's name."""
    model, count = setting.model, setting.sizes.steps
    with prune(model, method, record_attention=False) as trace:
        logits, cache, position = prefill(model, inputs)
    counts = [layer.counts for layer in trace.layers]
    slots: SlotCache = slot_cache(cache, counts, count, inputs["input_ids"].shape[1])
    step = make(model, slots, position)
    found = [logits.float()]  # copies: a graph writes its logits to the same place at every step
    with step.on():
        for _ in range(count):
            found.append(step(found[-1].argmax(-1)).to(torch.float32, copy=True))
    return torch.stack(found), step.kernel
