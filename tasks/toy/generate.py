"""Write the toy data sets: same fields, feature types and splits as the real benchmarks.

    python -m tasks.toy.generate [--out tasks/toy/data] [--samples 48] [--force]

Field lists follow the data set cards of LLaVA-NeXT-Interleave-Bench (in_domain, multi_view_in_domain), flickr30k,
COCO-Caption2017 and DetailCaps-4870 as lmms-eval 0.7.3 reads them; `reading` has those of OCRBench, `finding` those of
GQA's instructions with the image in the row, `long` those of DetailCaps with one reference thrice. The same arguments
always give the same rows.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, Features, Image, Value
from datasets import List as Sequence

from tasks.toy.samples import BENCHMARKS, SUB_TASKS, Sample, make_samples
from tasks.toy.scenes import SIZE, Scene, draw

SEED = "toy-1"
DEFAULT_OUT = Path(__file__).parent / "data"
MARKER = "generated.json"

_TEXT, _NUMBER = Value("string"), Value("int64")

FEATURES: dict[str, Features] = {
    "interleave_in_domain": Features(
        {
            "sample_id": _NUMBER,
            "sub_task": _TEXT,
            **{f"image_{i}": Image() for i in range(12)},
            "question": _TEXT,
            "answer": _TEXT,
            "question_type": _TEXT,
        }
    ),
    "interleave_multi_view": Features(
        {
            "sample_id": _NUMBER,
            "sub_task": _TEXT,
            **{f"image_{i}": Image() for i in range(8)},
            "conversations": Sequence({"from": _TEXT, "value": _TEXT}),
            "task_instruction_id": _NUMBER,
            "task_instruction": Value("null"),
            "question_type": _TEXT,
            "answer": _TEXT,
        }
    ),
    "flickr30k": Features(
        {
            "image": Image(),
            "caption": Sequence(_TEXT),
            "sentids": Sequence(_TEXT),
            "split": _TEXT,
            "img_id": _TEXT,
            "filename": _TEXT,
        }
    ),
    "coco2017": Features(
        {
            "question_id": _TEXT,
            "image": Image(),
            "question": _TEXT,
            "answer": Sequence(_TEXT),
            "id": _NUMBER,
            "license": _NUMBER,
            "file_name": _TEXT,
            "coco_url": _TEXT,
            "height": _NUMBER,
            "width": _NUMBER,
            "date_captured": _TEXT,
        }
    ),
    "detailcaps": Features(
        {
            "dataset": _TEXT,
            "image": _TEXT,
            "binary": Value("binary"),
            "GT_Caption_GPT4O": _TEXT,
            "GT_Caption_GPT4V": _TEXT,
            "GT_Caption_Gemini15Pro": _TEXT,
        }
    ),
    "reading": Features(
        {
            "dataset": _TEXT,
            "question": _TEXT,
            "question_type": _TEXT,
            "answer": Sequence(_TEXT),
            "image": Image(),
        }
    ),
    "finding": Features(
        {
            "id": _TEXT,
            "imageId": _TEXT,
            "image": Image(),
            "question": _TEXT,
            "answer": _TEXT,
            "fullAnswer": _TEXT,
            "types": {"structural": _TEXT},
        }
    ),
}
FEATURES["long"] = FEATURES["detailcaps"]
SPLIT_NAMES = {name: "val" if name == "coco2017" else "test" for name in FEATURES}


def image_seed(*parts: object) -> int:
    """A 32-bit drawing seed from any printable parts."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


def _png(scene: Scene, *where: object) -> bytes:
    buffer = io.BytesIO()
    draw(scene, image_seed(SEED, *where)).save(buffer, format="PNG")
    return buffer.getvalue()


def _images(sample: Sample, columns: int, row: int) -> dict[str, dict | None]:
    encoded = [{"bytes": _png(s, sample.benchmark, row, i), "path": None} for i, s in enumerate(sample.scenes)]
    return {f"image_{i}": encoded[i] if i < len(encoded) else None for i in range(columns)}


def _in_domain(sample: Sample, row: int) -> dict:
    return {
        "sample_id": row,
        "sub_task": sample.sub_task,
        **_images(sample, 12, row),
        "question": sample.question,
        "answer": sample.answer,
        "question_type": "open-ended",
    }


def _multi_view(sample: Sample, row: int) -> dict:
    return {
        "sample_id": row,
        "sub_task": sample.sub_task,
        **_images(sample, 8, row),
        "conversations": [{"from": who, "value": text} for who, text in sample.turns],
        "task_instruction_id": 0,
        "task_instruction": None,
        "question_type": "multi-choice" if sample.multiple_choice else "open-ended",
        "answer": sample.answer,
    }


def _flickr30k(sample: Sample, row: int) -> dict:
    return {
        "image": _images(sample, 1, row)["image_0"],
        "caption": list(sample.references),
        "sentids": [str(row * len(sample.references) + i) for i in range(len(sample.references))],
        "split": "test",
        "img_id": str(row),
        "filename": f"{row:08d}.png",
    }


def _coco2017(sample: Sample, row: int) -> dict:
    name = f"{row + 1:012d}.png"
    return {
        "question_id": name,
        "image": _images(sample, 1, row)["image_0"],
        "question": sample.question,
        "answer": list(sample.references),
        "id": row + 1,
        "license": 0,
        "file_name": name,
        "coco_url": "",
        "height": SIZE,
        "width": SIZE,
        "date_captured": "",
    }


def _detailcaps(sample: Sample, row: int) -> dict:
    first, second, third = (sample.references * 3)[:3]
    return {
        "dataset": "toy",
        "image": f"toy_{row:06d}.png",
        "binary": _png(sample.scenes[0], sample.benchmark, row, 0),
        "GT_Caption_GPT4O": first,
        "GT_Caption_GPT4V": second,
        "GT_Caption_Gemini15Pro": third,
    }


def _reading(sample: Sample, row: int) -> dict:
    return {
        "dataset": "toy",
        "question": sample.question,
        "question_type": sample.sub_task,
        "answer": list(sample.references),
        "image": _images(sample, 1, row)["image_0"],
    }


def _finding(sample: Sample, row: int) -> dict:
    return {
        "id": str(row),
        "imageId": str(row),
        "image": _images(sample, 1, row)["image_0"],
        "question": sample.question,
        "answer": sample.answer,
        "fullAnswer": sample.answer,
        "types": {"structural": sample.sub_task},
    }


_WRITERS: dict[str, tuple[tuple[str, ...], Callable[[Sample, int], dict]]] = {
    "interleave_in_domain": (("sd", "ie", "vst"), _in_domain),
    "interleave_multi_view": (("mv",), _multi_view),
    "flickr30k": (("flickr30k",), _flickr30k),
    "coco2017": (("coco2017",), _coco2017),
    "detailcaps": (("detailcaps",), _detailcaps),
    "reading": (("reading",), _reading),
    "finding": (("finding",), _finding),
    "long": (("long",), _detailcaps),
}


def test_samples(benchmark: str, samples: int = 48) -> list[Sample]:
    """The test samples of a benchmark, `samples` rounded up to the same number for each of its sub-tasks."""
    per_sub_task = -(-samples // len(SUB_TASKS[benchmark]))
    return list(make_samples(benchmark, per_sub_task * len(SUB_TASKS[benchmark]), SEED, "test"))


test_samples.__test__ = False  # type: ignore[attr-defined]  # pytest collects by name


def build(name: str, samples: int = 48) -> DatasetDict:
    """One data set, in memory."""
    benchmarks, write = _WRITERS[name]
    drawn = [sample for benchmark in benchmarks for sample in test_samples(benchmark, samples)]
    rows = [write(sample, row) for row, sample in enumerate(drawn)]
    return DatasetDict({SPLIT_NAMES[name]: Dataset.from_list(rows, features=FEATURES[name])})


def _source() -> str:
    """Hash of the modules that decide what is drawn and asked: data of an older generator are drawn anew."""
    names = ("captions", "changes", "generate", "glyphs", "samples", "scenes")
    code = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in names)
    return hashlib.sha256(code).hexdigest()[:16]


def generate(out: Path, samples: int = 48, force: bool = False) -> bool:
    """Write all data sets under `out`; False if they are already there. Never leaves a half-written set behind."""
    marker = out / MARKER
    wanted = {"source": _source(), "seed": SEED, "samples": samples, "benchmarks": list(BENCHMARKS)}
    if not force and marker.exists() and json.loads(marker.read_text()) == wanted:
        return False
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    datasets.disable_progress_bars()
    for name in FEATURES:
        fresh = out / f".{name}.partial"
        shutil.rmtree(fresh, ignore_errors=True)
        build(name, samples).save_to_disk(fresh)
        shutil.rmtree(out / name, ignore_errors=True)
        fresh.rename(out / name)
    marker.write_text(json.dumps(wanted, indent=1) + "\n")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder of the data sets (%(default)s)")
    parser.add_argument("--samples", type=int, default=48, help="test samples per benchmark (%(default)s)")
    parser.add_argument("--force", action="store_true", help="write again even if the data sets are there")
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error(f"--samples must be at least 1, got {arguments.samples}")
    written = generate(arguments.out, arguments.samples, arguments.force)
    print(f"{'wrote' if written else 'up to date:'} {', '.join(FEATURES)} in {arguments.out}")


if __name__ == "__main__":
    main()
