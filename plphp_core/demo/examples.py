"""Questions to begin with, about scenes drawn here, as the toy models know them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

# Benchmark and sub-task of each example.
KINDS = (
    ("sd", "Spot-the-Diff"),
    ("coco2017", "coco2017"),
    ("mv", "ScanNet_chat"),
    ("vst", "AESOP"),
    ("detailcaps", "detailcaps"),
)
SEED = "demo"


@dataclass(frozen=True)
class Example:
    """A question and the files of its images."""

    question: str
    files: tuple[Path, ...]


def draw_examples(folder: Path) -> list[Example]:
    """Draw the examples' images into `folder`; always the same ones, of scenes that no toy model was trained on."""
    from tasks.toy.generate import image_seed
    from tasks.toy.samples import make_sample
    from tasks.toy.scenes import draw

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for benchmark, kind in KINDS:
        sample = make_sample(benchmark, kind, random.Random(f"{SEED}/{benchmark}"), "test")
        files = []
        for number, scene in enumerate(sample.scenes, 1):
            files.append(folder / f"{benchmark}-{number}.png")
            draw(scene, image_seed(SEED, benchmark, number)).save(files[-1])
        # Of a conversation, the first question: the next one is the visitor's.
        question = sample.turns[0][1] if sample.turns else sample.question
        found.append(Example(question, tuple(files)))
    return found
