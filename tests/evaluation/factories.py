"""A complete little world in a folder: a random checkpoint with its processor, two tasks, their data; and what tests of
runs in it share."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from transformers import GenerationConfig

from plphp_core.config.run_settings import Benchmark, MethodSettings, ModelSettings, Settings
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.runner import run_group
from plphp_core.records.journal_lines import Answer
from tests import factories
from tests.journal_factories import answer_of

WORDS = ["what", "changed", "red", "blue", "green", "circle", "square", "left", "right", "?",
         "You", "are", "helpful", "assistant"]  # fmt: skip

TASK = """
task: {name}
dataset_path: {data}
dataset_kwargs: {{load_from_disk: True}}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.images
doc_to_text: !function functions.question
doc_to_target: answer
process_results: !function functions.process_results
generation_kwargs: {{max_new_tokens: 4, do_sample: false, until: ["zzz"]}}
metric_list:
  - metric: overlap
    aggregation: !function functions.mean
    higher_is_better: true
metadata:
  - version: 1
"""

FUNCTIONS = """
def images(doc):
    return [doc[name].convert("RGB") for name in ("image_0", "image_1") if doc[name] is not None]


def question(doc):
    return doc["question"]


def process_results(doc, results):
    words = set(results[0].split())
    return {"overlap": {"score": len(words & set(doc["answer"].split())) / 2, "sub_task": doc["sub_task"]}}


def mean(items):
    return mean.detail(items)["value"]


def _detail(items):
    samples = [item["score"] for item in items]
    names = sorted({item["sub_task"] for item in items})
    parts = {name: [item["score"] for item in items if item["sub_task"] == name] for name in names}
    return {"value": sum(samples) / len(samples), "kind": "mean", "samples": samples, "groups": None,
            "subsets": {name: {"value": sum(part) / len(part), "n": len(part)} for name, part in parts.items()}}


mean.detail = _detail
"""


def save_checkpoint(folder: Path, seed: int = 0) -> Path:
    """A random tiny LLaVA-OneVision in plain Hugging Face layout."""
    model = factories.tiny_llava_onevision(layers=6, seed=seed)
    model.generation_config = GenerationConfig(eos_token_id=factories.EOS_TOKEN, pad_token_id=factories.PAD_TOKEN)
    processor = factories.tiny_processor(words=WORDS)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_data(folder: Path, samples: int = 10, seed: int = 0) -> Path:
    """One or two little random images per sample, a question, a two-word answer."""
    rng = random.Random(seed)

    def picture():
        return PILImage.fromarray(
            np.array([[[rng.randrange(256) for _ in range(3)] for _ in range(16)] for _ in range(16)], "uint8")
        )

    rows = []
    for number in range(samples):
        two = number % 2 == 0
        words = " ".join(rng.choices(WORDS[:9], k=3 + number % 4))
        rows.append(
            {
                "image_0": picture(),
                "image_1": picture() if two else None,
                "question": ("<image> <image> " if two else "") + words + " ?",
                "answer": " ".join(rng.sample(WORDS[:9], 2)),
                "sub_task": f"part{number % 2}",
            }
        )
    features = Features({name: Image() if name.startswith("image") else Value("string") for name in rows[0]})
    DatasetDict({"test": Dataset.from_list(rows, features=features)}).save_to_disk(str(folder))
    return folder


def make_world(root: Path, samples: int = 10) -> Path:
    """Checkpoint, two task files (mini_a, mini_b) and their data below `root`."""
    save_checkpoint(root / "checkpoint")
    tasks = root / "tasks"
    tasks.mkdir()
    (tasks / "functions.py").write_text(FUNCTIONS)
    for seed, name in enumerate(("mini_a", "mini_b")):
        save_data(root / "data" / name, samples=samples, seed=seed)
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, data=f"data/{name}"))
    return root


def own_tasks(world: Path, root: Path, **tasks: str) -> None:
    """Copies the world's task files and data to `root`, and adds task files: name → text."""
    for name in ("tasks", "data"):
        shutil.copytree(world / name, root / name)
    for name, text in tasks.items():
        (root / "tasks" / f"{name}.yaml").write_text(text)


def settings(root: Path, methods=("plphp",), tasks=("mini_a",), **changes) -> Settings:
    """Settings of a run in the world at `root`; results below it."""
    rows = {
        "none": MethodSettings("none"),
        "plphp": MethodSettings(
            "plphp",
            {"r": 0.4, "delta_r": 0.3, "alpha": 0.25, "beta": 0.1, "gqa": "mean", "head_budget": "equal"},
            "r=0.4",
        ),
        "fastv": MethodSettings("fastv", {"K": 2, "R": 0.5}, "K=2, R=0.5"),
        "vtw": MethodSettings("vtw", {"K": 99}, "K=99"),
    }
    values = dict(
        root=root,
        results=root / "results" / "mini",
        profile="mini",
        protocol="lmms_eval",
        data_root=root / "data",
        model=ModelSettings("tiny", "llava_onevision", str(root / "checkpoint"), None, "float32", "sdpa", "cpu"),
        methods=tuple(rows[name] for name in methods),
        benchmarks=tuple(Benchmark(name.upper(), name) for name in tasks),
        batch_size=4,
    )
    return Settings(**(values | changes))


# --- Runs in it -------------------------------------------------------------------------------------------------------


def run(run_settings, config: dict, loader, display=None) -> int:
    """One run alone."""
    return run_group([(run_settings, config)], loader, display)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def in_child(work) -> int:
    """Run `work` in a forked process, which exits with the number it returns, if any; returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work() or 0
        finally:
            os._exit(code)
    return pid


TIMES = ("prefill_ms", "decode_ms", "time")
CHANGING = ("finished", "manifest", "batch_size", "content_hash")
TIMINGS = ("prefill_ms", "decode_ms", "decode_ms_per_token")


def cells(run_settings) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (run_settings.results / "cells").glob("*.json")}


def timeless(cell: dict) -> dict:
    """A result file without what may differ between two runs with the same answers."""
    cell = {key: value for key, value in cell.items() if key not in CHANGING}
    return cell | {"efficiency": {key: value for key, value in cell["efficiency"].items() if key not in TIMINGS}}


def journal_keys(run_settings) -> list[str]:
    found = (line for path in (run_settings.results / "journal").glob("*.jsonl") for line in lines(path))
    return [line["key"] for line in found if "key" in line]


def never(*_):
    raise AssertionError("must not be called")


class FakeAnswerer:
    """Answers without a model, so that it can be killed in a forked process."""

    pause = 0.0

    def __init__(self, loaded):
        pass

    def check(self, method):
        pass

    def answer(self, batch, methods):
        for method in methods:
            time.sleep(self.pause)
            yield method, [(request, fake_answer(request.context, len(batch))) for request in batch]


def fake_answer(text: str, batch_size: int = 1) -> Answer:
    costs = {"prefill_ms": 1.0, "decode_ms": 3.0, "kv_bytes": 10, "kv_bytes_full": 20}
    return answer_of(text, retention=[1.0, 0.5], batch_size=batch_size, **costs)


def alone(loaded, method, batch):
    """A batch's requests with their answers under one method."""
    ((_, results),) = JointAnswerer(loaded).answer(batch, [method])
    return results


def content(results):
    return [(request.tag, {k: v for k, v in vars(answer).items() if k not in TIMES}) for request, answer in results]
