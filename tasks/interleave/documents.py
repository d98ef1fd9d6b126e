"""Rows of LLaVA-NeXT-Interleave-Bench: which belong to a benchmark, what the model is shown and asked.

Same prompts as lmms_eval.tasks.llava_interleave_bench (0.7.3).
"""

import json
import re

from datasets import Dataset
from PIL import Image

SUB_TASKS = {
    "SD": ("Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"),
    "IE": ("IEdit", "HQ-Edit", "MagicBrush"),
    "VST": ("AESOP", "FlintstonesSV", "PororoSV", "VIST"),
    "MV": ("ScanQA", "ALFRED", "nuscenes", "ScanNet_chat", "ScanNet_task"),
}
MAX_IMAGES = 16  # upstream's limit per sample


def _only(benchmark: str, documents: Dataset) -> Dataset:
    """The rows of a benchmark, in order. Reads the column `sub_task` alone: `Dataset.filter` would decode every image.

    Raises:
        ValueError: there are none.
    """
    names = documents["sub_task"][:]
    rows = [row for row, name in enumerate(names) if name in SUB_TASKS[benchmark]]
    if not rows:
        wanted, found = SUB_TASKS[benchmark], sorted(set(names))
        raise ValueError(f"no {benchmark} sample: sub_task must be one of {wanted}, the data have {found}")
    return documents.select(rows)


def only_sd(documents: Dataset) -> Dataset:
    """Spot-the-Diff, Birds-to-Words, CLEVR-Change."""
    return _only("SD", documents)


def only_ie(documents: Dataset) -> Dataset:
    """IEdit, HQ-Edit, MagicBrush."""
    return _only("IE", documents)


def only_vst(documents: Dataset) -> Dataset:
    """AESOP, FlintstonesSV, PororoSV, VIST."""
    return _only("VST", documents)


def only_mv(documents: Dataset) -> Dataset:
    """ScanQA, ALFRED, nuscenes, ScanNet_chat, ScanNet_task."""
    return _only("MV", documents)


def all_images(document: dict) -> list[Image.Image]:
    """Every image of a row, in order, in whatever mode it is stored (the model wrapper converts, and says so)."""
    columns = sorted((name for name in document if re.fullmatch(r"image_\d+", name)), key=lambda name: int(name[6:]))
    return [document[name] for name in columns if document[name] is not None]


def first_images(document: dict) -> list[Image.Image]:
    """The images of the columns image_0 … image_15."""
    return all_images({name: document[name] for i in range(MAX_IMAGES) if (name := f"image_{i}") in document})


def question(document: dict) -> str:
    """The question, with an `<image>` mark where each image goes."""
    return document["question"]


def conversation(document: dict) -> str:
    """Multi-View: the turns as JSON, [{"from": "human", "value": …}, …], the last one from the human."""
    turns = document["conversations"]
    return turns if isinstance(turns, str) else json.dumps(turns)
