"""Files as `scripts/attend.py` writes them, with known contents."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from plphp_core.vision.spatial_groups import CUTS
from plphp_core.vision.token_geometry import grid

VALLEY = [0.6, 0.5, 0.2, 0.15, 0.4, 0.3, 0.1, 0.05]  # falls, rises again in layer 5, falls


def reading(folder: Path, model="llava_onevision", benchmark="SD", gamma=VALLEY, n=40, noise=0.02, seed=0, **changes):
    """Write one result; γ of every sample is `gamma` and normal noise. Returns the values, (n, layers)."""
    rng = np.random.default_rng([seed, len(benchmark)])
    values = np.clip(np.asarray(gamma) + noise * rng.standard_normal((n, len(gamma))), 0, 1)
    shares = [0.1, 0.15, 0.4, 0.2, 0.1, 0.05]
    content = {
        "schema": 2, "key": "k", "profile": "toy", "model": model, "family": model,
        "checkpoint": f"checkpoints/{model}", "revision": "sha256:0123456789abcdef", "dtype": "float32",
        "attn_implementation": "sdpa", "prompts": "lmms_eval", "protocol": "lmms_eval", "located": model != "idefics2",
        "task": f"toy_{benchmark.lower()}",
        "benchmark": benchmark, "data_revision": "sha256:data", "population": 48, "limit": n, "limit_seed": 0, "n": n,
        "errors": 0, "hardware": "some CPU",
        "manifest": "manifests/x.json", "doc_ids": list(range(n)),
        "prompt_tokens": [100] * n, "image_sizes": [[16]] * n, "vision_attention": values.tolist(),
        "groups": {cut: [[shares] * len(gamma)] * n for cut in CUTS},
        "group_tokens": {cut: [[0.2, 0.2, 0.2, 0.2, 0.15, 0.05]] * n for cut in CUTS},
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{content['model']}.{content['task']}.json").write_text(json.dumps(content))
    return values


def sight(folder: Path, model="llava_onevision", doc=3, rows=None, kept=None, boxes=None, side=4, layers=4, **changes):
    """Write one sample in full: two images of side² tokens, attention even and everything kept unless given."""
    tokens = 2 * side**2
    rows = np.full((layers, 4, tokens), 0.5 / tokens, np.float32) if rows is None else rows
    kept = np.ones((layers, 2, tokens), np.uint8) if kept is None else kept
    boxes = np.concatenate([grid(side, side).numpy()] * 2) if boxes is None else boxes
    image_of = np.repeat(np.arange(2, dtype=np.int32), side**2)
    stem = f"{model}.toy_sd.doc={doc}"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"rows": rows, "kept": kept, "boxes": boxes, "image_of": image_of}
    save_file({name: np.ascontiguousarray(one) for name, one in tensors.items()}, folder / f"{stem}.safetensors")
    names = []
    for number in range(2):
        names.append(f"{stem}.image{number}.png")
        Image.new("RGB", (64, 48), (200, 120 * number, 40)).save(folder / names[-1])
    content = {
        "schema": 2, "profile": "toy", "model": model, "family": model, "located": True, "checkpoint": "checkpoints/x",
        "revision": "sha256:0123456789abcdef", "dtype": "float32", "hardware": "some CPU",
        "method": {"name": "plphp", "params": {"r": 0.4}, "setting": "r=0.4"}, "asked_for": False,
        "task": "toy_sd", "benchmark": "SD",
        "data_revision": "sha256:data", "doc_id": doc, "question": "what $changed$?", "images": names,
        "tensors": f"{stem}.safetensors", "prompt_tokens": tokens + 10,
        "vision_attention": rows.sum(-1).mean(-1).tolist(), "retention": kept.reshape(layers, -1).mean(-1).tolist(),
    } | changes  # fmt: skip
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(content))
    return path
