"""Checks and measures pruning on a GPU, in one command, with a randomly initialised model of the real shape.

    python -m scripts.gpu_check                             # LLaVA-OneVision-7B's shape, bf16, needs 40 GB
    python -m scripts.gpu_check --tiny --device cpu         # the same code on a CPU, to see that it runs

Needs torch, transformers and this checkout, no checkpoint and no data. Random weights say nothing about accuracy; they
do show that nothing-pruned is bitwise identical, that memory is really freed, what scoring costs, which attention
kernels are right here, and how far the fast path follows `generate()` in bf16. Exit code 1: something is not as it must
be. Writes results/gpu/check-<device>.json.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.bench.shapes import SHAPES, Shape, build, prompts
from plphp_core.bench.timing import times_of
from plphp_core.decode import fast_generate
from plphp_core.device import free_memory, synchronise
from plphp_core.kernels import KERNELS, Kernel, choose, try_kernel
from plphp_core.reporting.render import write_atomically
from plphp_core.slots import SlotLayer

METHODS = (None, PLPHP(), FastV(K=3, R=0.5), VTW(K=4))
NEW = 32  # tokens of the agreement of the fast path


def generate(model, inputs, method, steps, **options):
    with prune(model, method) as trace:
        out = model.generate(
            **inputs,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            return_dict_in_generate=True,
            **options,
        )
    return out, trace


def allocated(device: str) -> int:
    synchronise(device)
    return torch.cuda.memory_allocated() if device.startswith("cuda") else 0


def milliseconds(call, device: str, warm: int, runs: int) -> dict:
    """Median and quartiles of `runs` synchronised calls after `warm` unmeasured ones."""
    times = []
    for i in range(warm + runs):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        if i >= warm:
            times.append((time.perf_counter() - start) * 1e3)
    found = times_of(times)
    return {"median_ms": round(found.median, 4), "q1_ms": round(found.q1, 4), "q3_ms": round(found.q3, 4), "runs": runs}


def check_identity(model, inputs) -> dict:
    plain = model.generate(
        **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    found = {}
    for method in (PLPHP(r=1.0, delta_r=0.0), FastV(K=3, R=0.0), VTW(K=len(model.model.language_model.layers))):
        out, _ = generate(model, inputs, method, 4, output_logits=True)
        found[str(method)] = all(torch.equal(a, b) for a, b in zip(out.logits, plain.logits, strict=True))
    return found


def check_memory(model, inputs, device: str) -> list[dict]:
    rows = []
    for method in METHODS:
        before = allocated(device)
        out, trace = generate(model, inputs, method, 1)
        cache = out.past_key_values
        held = sum(t.untyped_storage().nbytes() for layer in cache.layers for t in (layer.keys, layer.values))
        del out
        grown = allocated(device) - before
        rows.append(
            {
                "method": str(method),
                "kv_bytes": int(sum(trace.kv_bytes)),
                "kv_bytes_full": int(sum(trace.kv_bytes_full)),
                "cache_storages_bytes": held,
                "allocated_bytes": grown if device.startswith("cuda") else None,
                "finite": all(bool(layer.keys.isfinite().all()) for layer in cache.layers),
            }
        )
        del cache, trace
    return rows


def measure_prefill(model, inputs, device: str, runs: int) -> dict:
    """What scoring and gathering add to a prefill; the paper says under 0.5 decoded tokens (claim C8)."""

    def once(method):
        if method == "without":
            return lambda: model(**inputs, use_cache=True, logits_to_keep=1)

        def call():
            with prune(model, method, record_attention=method is None):
                model(**inputs, use_cache=True, logits_to_keep=1)

        return call

    methods = {"without": "without", "trace only": None, "plphp": PLPHP(), "fastv": FastV(3, 0.5), "vtw": VTW(4)}
    rows = {name: milliseconds(once(method), device, 3, runs) for name, method in methods.items()}
    steps = 8
    prefill = milliseconds(lambda: generate(model, inputs, None, 1), device, 1, 5)["median_ms"]
    longer = milliseconds(lambda: generate(model, inputs, None, 1 + steps), device, 1, 5)["median_ms"]
    step = (longer - prefill) / steps
    rows["generate_step_ms"] = round(step, 3)
    rows["plphp_overhead_in_decoded_tokens"] = round(
        (rows["plphp"]["median_ms"] - rows["without"]["median_ms"]) / step, 3
    )
    return rows


def check_kernels(shape: Shape, device: torch.device, slots: int, runs: int) -> dict:
    """Every kernel against fp32 attention, the time of one layer at batch 8 with ragged lengths, and which is taken."""
    heads = (shape.head_dim, shape.query_heads, shape.kv_heads)
    lengths = [slots - slots * sample // 16 for sample in range(8)]
    keys = torch.randn(8, shape.kv_heads, slots, shape.head_dim, device=device, dtype=torch.bfloat16)
    layer = SlotLayer(keys, keys, lengths, room=1, seen=slots)
    query = torch.randn(8, shape.query_heads, shape.head_dim, device=device, dtype=torch.bfloat16)
    found = {}
    for name, make in KERNELS.items():
        try:
            kernel = Kernel(name, make(torch.bfloat16, shape.head_dim))
            problem = try_kernel(kernel, device, torch.bfloat16, *heads)
        except (ImportError, NotImplementedError) as error:
            problem = str(error)
        found[name] = {"right": problem is None, "problem": problem}
        if problem is None:
            found[name] |= milliseconds(lambda attend=kernel.attend: attend(query, layer, None), str(device), 3, runs)
    found["taken"] = choose(device, torch.bfloat16, *heads).name
    return found


def check_fast(model, inputs) -> list[dict]:
    """Tokens of the fast path against `generate()`: the first must be the same, later ones differ by rounding."""
    prompt = inputs["input_ids"].shape[1]
    rows = []
    for method in METHODS:
        expected, _ = generate(model, inputs, method, NEW, eos_token_id=None)
        expected = expected.sequences[:, prompt:]
        found = fast_generate(model, inputs, method, max_new_tokens=NEW, eos_token_id=[])
        same = found.sequences[:, prompt:] == expected
        rows.append(
            {
                "method": str(method),
                "kernel": found.kernel,
                "first_token_equal": bool(same[:, 0].all()),
                "tokens": same.numel(),
                "tokens_equal": int(same.sum()),
                "equal_up_to_the_first_difference": int(same.int().cumprod(dim=1).sum()),
                "ms_per_token": round(found.decode_ms / found.decode_steps, 3),
            }
        )
    return rows


def ragged(inputs: dict, shape: Shape) -> dict:
    """The same prompts, the last one padded on the left by half of its leading text."""
    mask = inputs["attention_mask"].clone()
    text = int((inputs["input_ids"][0] != shape.vocabulary - 2).cumprod(0).sum())
    mask[-1, : text // 2] = 0
    return inputs | {"attention_mask": mask}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small decoder and short prompts")
    parser.add_argument("--attention", nargs="*", default=["sdpa"], help="also flash_attention_2 where it is installed")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the result")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print("error: no CUDA device: run on a machine with a GPU, or with --tiny --device cpu", file=sys.stderr)
        return 2
    hardware = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    shape = SHAPES["tiny" if args.tiny else "qwen2_7b"]
    result = {
        "hardware": hardware,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": shape.name,
    }
    images, text, slots, runs = (2, 40, 300, 4) if args.tiny else (9, 200, 7000, 20)
    with torch.no_grad():
        result["kernels"] = check_kernels(shape, torch.device(args.device), slots, runs)
    for attention in args.attention:
        model = build(shape, args.device, torch.bfloat16)
        model.set_attn_implementation(attention)
        with torch.no_grad():
            one, two = (prompts(shape, batch, images, text, args.device, torch.bfloat16) for batch in (1, 2))
            result[attention] = {
                "prompt_tokens": one["input_ids"].shape[1],
                "identity": check_identity(model, one),
                "identity_batch_of_2": check_identity(model, two),
                "memory": check_memory(model, one, args.device),
                "prefill": measure_prefill(model, one, args.device, runs),
                "fast": check_fast(model, ragged(two, shape)),
            }
        del model
        free_memory()
    text = json.dumps(result, indent=2)
    print(text)
    name = hardware.split(",")[0].lower().replace(" ", "-")
    write_atomically(args.out / f"check-{name}.json", text + "\n")
    broken = [a for a in args.attention if not all(result[a]["identity"].values())]
    broken += [a for a in args.attention if not all(row["first_token_equal"] for row in result[a]["fast"])]
    if broken:
        print(f"not as without pruning, or not as generate(): {', '.join(dict.fromkeys(broken))}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
