"""Small data sets with the fields that the task files read, and a stand-in model."""

import io
import random
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage

TASKS = Path(__file__).parents[2] / "tasks"
BENCHMARKS = ("sd", "ie", "vst", "mv", "flickr30k", "coco2017", "detailcaps")
INTERLEAVE = BENCHMARKS[:4]
PLAIN = ["a", "the", "dog", "cat", "man", "woman", "rides", "birds", "table", "is", "near", "on"]
ODD = ["café", "bike,", "red.", "(small)", "it's", '"two"', "blue-green", "3,000", "|||", "“big”", "🙂", "…"]


def sentence(rng: random.Random, length: int = 9) -> str:
    """Words, punctuation, accents, a METEOR separator, an emoji: what captions may hold."""
    return " ".join(rng.choice(PLAIN + ODD) for _ in range(rng.randint(3, length)))


def png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def interleave(sub_tasks: list[str], columns: int = 12, broken: bool = False, **fields) -> DatasetDict:
    """One open-ended row per sub-task, with two images; `broken` ones cannot be decoded."""
    files = [{"bytes": b"no image" if broken else png((i, 0, 0)), "path": None} for i in range(2)]
    features = {"sample_id": Value("int64"), "sub_task": Value("string"), "question": Value("string")}
    features |= {f"image_{i}": Image() for i in range(columns)}
    features |= {"answer": Value("string"), "question_type": Value("string")}
    features |= {"conversations": List({"from": Value("string"), "value": Value("string")})}
    rows = [
        {
            "sample_id": row,
            "sub_task": name,
            **{f"image_{i}": files[i] if i < 2 else None for i in range(columns)},
            "question": "<image> and <image>: what changed?",
            "answer": "the red ball is gone.",
            "question_type": "open-ended",
            "conversations": [{"from": "human", "value": f"<image><image> where, in café {row}?"}],
            **fields,
        }
        for row, name in enumerate(sub_tasks)
    ]
    return DatasetDict({"test": Dataset.from_list(rows, features=Features(features))})


def captions(name: str, rows: int = 4) -> DatasetDict:
    """A tiny flickr30k, coco2017 or detailcaps."""
    rng = random.Random(name)
    image = {"bytes": png((9, 9, 9)), "path": None}
    texts = List(Value("string"))
    if name == "flickr30k":
        data = [{"image": image, "caption": [sentence(rng) for _ in range(5)], "img_id": str(i)} for i in range(rows)]
        features = {"image": Image(), "caption": texts, "img_id": Value("string")}
    elif name == "coco2017":
        data = [
            {"image": image, "answer": [sentence(rng) for _ in range(5)], "id": i, "question_id": f"{i:012d}.jpg"}
            for i in range(rows)
        ]
        features = {"image": Image(), "answer": texts, "id": Value("int64"), "question_id": Value("string")}
    else:
        columns = ("GT_Caption_GPT4O", "GT_Caption_GPT4V", "GT_Caption_Gemini15Pro")
        data = [
            {"image": f"{i}.jpg", "binary": image["bytes"], **{c: f"{c} {sentence(rng, 40)}" for c in columns}}
            for i in range(rows)
        ]
        features = {"image": Value("string"), "binary": Value("binary"), **{c: Value("string") for c in columns}}
    split = "val" if name == "coco2017" else "test"
    return DatasetDict({split: Dataset.from_list(data, features=Features(features))})


SUB_TASKS = {
    "sd": ["Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"],
    "ie": ["IEdit", "HQ-Edit", "MagicBrush"],
    "vst": ["AESOP", "FlintstonesSV", "PororoSV", "VIST"],
    "mv": ["ScanQA", "ALFRED", "nuscenes", "ScanNet_chat", "ScanNet_task"],
}


def data_set(benchmark: str) -> DatasetDict:
    """What a benchmark's task loads; for the interleave ones other benchmarks' rows are mixed in."""
    if benchmark == "mv":
        return interleave(SUB_TASKS["mv"] * 2, columns=8)
    if benchmark in INTERLEAVE:
        names = [
            name for pair in zip(SUB_TASKS["sd"], SUB_TASKS["ie"], SUB_TASKS["vst"][:3], strict=True) for name in pair
        ]
        return interleave([*names, "VIST", "AESOP", "Spot-the-Diff"])
    return captions(benchmark)
