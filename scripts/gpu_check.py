"""Checks and measures pruning on a GPU, in one command, with a randomly initialised model of the real shape.

    python -m scripts.gpu_check --out results/gpu          # LLaVA-OneVision-7B's shape, bf16, needs 40 GB
    python -m scripts.gpu_check --tiny --device cpu         # the same code on a CPU, to see that it runs

Needs torch, transformers and this checkout, no checkpoint and no data. Random weights say nothing about accuracy; they
do show that nothing-pruned is bitwise identical, that memory is really freed, and what scoring costs.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines import VTW, FastV
from plphp_core import PLPHP, prune

IMAGE_TOKEN = 151646
MIB = 2**20


def build(tiny: bool, device: str, attention: str):
    """A random LLaVA-OneVision; its vision tower is one small layer, since only the decoder is of interest."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    shape = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4}
    if tiny:
        shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 8}
        heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    text = Qwen2Config(vocab_size=152064, max_position_embeddings=32768, **shape, **heads)
    vision = SiglipVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=384, patch_size=14
    )
    config = LlavaOnevisionConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlavaOnevisionForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    model.set_attn_implementation(attention)
    return model


def prompts(model, batch: int, images: int, text: int):
    """`batch` prompts of `images` one-tile images (730 tokens each) and `text` text tokens."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randint(0, 150000, (batch, text), generator=generator)
    ids = torch.cat([row[:, : text // 2], torch.full((batch, 730 * images), IMAGE_TOKEN), row[:, text // 2 :]], 1)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(batch * images, 1, 3, 384, 384, generator=generator).to(torch.bfloat16),
        "image_sizes": torch.full((batch * images, 2), 384),
        "batch_num_images": torch.full((batch,), images),
    }
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def generate(model, inputs, method, steps, logits=False):
    with prune(model, method) as trace:
        out = model.generate(
            **inputs,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=logits,
        )
    return out, trace


def allocated(device: str) -> int:
    if not device.startswith("cuda"):
        return 0
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


def milliseconds(call, device: str, warm: int, runs: int) -> dict:
    """Median and quartiles of `runs` synchronised calls after `warm` unmeasured ones."""
    times = []
    for i in range(warm + runs):
        allocated(device)
        start = time.perf_counter()
        call()
        allocated(device)
        if i >= warm:
            times.append((time.perf_counter() - start) * 1e3)
    low, median, high = statistics.quantiles(times, n=4)
    return {"median_ms": round(median, 3), "q1_ms": round(low, 3), "q3_ms": round(high, 3), "runs": runs}


def check_identity(model, inputs) -> dict:
    plain = model.generate(
        **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    found = {}
    for method in (PLPHP(r=1.0, delta_r=0.0), FastV(K=3, R=0.0), VTW(K=len(model.model.language_model.layers))):
        out, _ = generate(model, inputs, method, 4, logits=True)
        found[str(method)] = all(torch.equal(a, b) for a, b in zip(out.logits, plain.logits, strict=True))
    return found


def check_memory(model, inputs, device: str) -> list[dict]:
    rows = []
    for method in (None, PLPHP(), FastV(K=3, R=0.5), VTW(K=4)):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small decoder and short prompts")
    parser.add_argument("--attention", nargs="*", default=["sdpa"], help="also flash_attention_2 where it is installed")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON; printed in any case")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        sys.exit("no CUDA device: run on a machine with a GPU, or with --tiny --device cpu")
    hardware = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    result = {
        "hardware": hardware,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": "tiny" if args.tiny else "LLaVA-OneVision-7B",
    }
    images, text, runs = (2, 40, 4) if args.tiny else (9, 200, 20)
    for attention in args.attention:
        model = build(args.tiny, args.device, attention)
        with torch.no_grad():
            inputs = prompts(model, 1, images, text)
            result[attention] = {
                "prompt_tokens": inputs["input_ids"].shape[1],
                "identity": check_identity(model, inputs),
                "identity_batch_of_2": check_identity(model, prompts(model, 2, images, text)),
                "memory": check_memory(model, inputs, args.device),
                "prefill": measure_prefill(model, inputs, args.device, runs),
            }
        del model
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        name = hardware.split(",")[0].lower().replace(" ", "-")
        (args.out / f"check-{name}.json").write_text(text + "\n")
    broken = [a for a in args.attention if not all(result[a]["identity"].values())]
    if broken:
        sys.exit(f"NOT identical with nothing pruned: {', '.join(broken)}")


if __name__ == "__main__":
    main()
