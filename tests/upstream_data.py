"""Made-up data with the columns that lmms-eval's own tasks read, and answers to them: right, wrong and odd.

`TASKS` says of each task where lmms-eval looks for its data and how to draw a row. `save(root, tasks)` writes them as
`<root>/<data set>[/<configuration>]`, where `profile.data_root=<root>` finds them.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, List
from PIL import Image as PILImage

ROWS = 12
WORDS = ["red", "blue", "two", "a dog", "yes", "the left one", "Paris", "12.5"]
LETTERS = "ABCD"


@dataclass(frozen=True)
class MadeUp:
    """Data of a task: `folder` below the root, `split`, and row(number, rng) → columns; "_right" is the answer."""

    folder: str
    split: str
    row: Callable[[int, random.Random], dict]


def picture(number: int) -> PILImage.Image:
    return PILImage.new("RGB", (24, 16), (37 * number % 256, 91 * number % 256, 150))


def _vqa(number, rng):
    right = rng.choice(WORDS)
    answers = [right] * 6 + [rng.choice(WORDS) for _ in range(4)]
    own = {"answers": answers, "answer": right, "question_type": "what", "ocr_tokens": ["exit", "12"]}
    return {
        "image": picture(number),
        "question": "WHAT is on sign 5?",
        "question_id": str(number),
        **own,
        "_right": right,
    }


def _vqav2(number, rng):
    found = _vqa(number, rng)
    answers = [{"answer": one, "answer_confidence": "yes", "answer_id": at} for at, one in enumerate(found["answers"])]
    return found | {"answers": answers, "question_id": number}


def _gqa(number, rng):
    right = rng.choice(["yes", "red", "left"])
    return {
        "id": str(number),
        "imageId": f"n{number % 3}",
        "question": f"Is it {number}?",
        "answer": right,
        "_right": right,
    }


def _pope(number, rng):
    right = rng.choice(["yes", "no"])
    category = ("adversarial", "popular", "random")[number % 3]
    own = {
        "id": str(number),
        "question_id": str(number // 3),
        "image_source": f"val_{number // 3}",
        "category": category,
    }
    return {"image": picture(number), "question": "Is there a dog?", "answer": right, **own, "_right": right}


def _mme(number, rng):
    right = ("Yes", "No")[number % 2]
    category = ("existence", "OCR", "code_reasoning")[number // 2 % 3]
    own = {"question_id": f"{category}/{number // 2}.png", "category": category}
    question = "Is it a dog? Please answer yes or no."
    return {"image": picture(number), "question": question, "answer": right, **own, "_right": right}


def _ocr(number, rng):
    right, kind = rng.choice(WORDS), ("Regular Text Recognition", "Doc-oriented VQA")[number % 2]
    own = {"dataset": ("IIIT5K", "HME100k")[number % 4 == 3], "question_type": kind}
    return {"image": picture(number), "question": "What is written?", "answer": [right, "x y"], **own, "_right": right}


def _options(rng):
    return rng.sample(["a cat", "three birds", "green", "nothing at all", "a bus"], 4)


def _sqa(number, rng):
    right = rng.randrange(3)
    own = {"choices": _options(rng)[:3], "answer": right, "hint": "" if number % 2 else "Look well."}
    return {"image": picture(number), "question": "Which one?", **own, "_right": LETTERS[right]}


def _chart(number, rng):
    right = rng.choice(["12.5", "40%", "Paris"])
    kind = ("human_test", "augmented_test")[number % 2]
    return {"image": picture(number), "question": "How many?", "answer": right, "type": kind, "_right": right}


def _doc(number, rng):
    right = rng.choice(WORDS)
    own = {"questionId": str(number), "answers": [right, f"{right} it is"]}
    return {"image": picture(number), "question": "Which date?", **own, "_right": right}


def _ai2d(number, rng):
    right = rng.randrange(4)
    own = {"options": _options(rng), "answer": str(right)}
    return {"image": picture(number), "question": "What is A?", **own, "_right": LETTERS[right]}


def _realworld(number, rng):
    right = rng.choice(["A", "B", "3"])
    question = "How many?\nA. one\nB. two\nPlease answer directly with only the letter of the correct option."
    return {
        "image": picture(number),
        "image_path": f"{number}.webp",
        "question": question,
        "answer": right,
        "_right": right,
    }


def _mmstar(number, rng):
    right = rng.choice(LETTERS)
    l2 = {"math": ["geometry", "statistical reasoning"], "logical reasoning": ["diagram reasoning"]}
    category = ("math", "logical reasoning")[number % 2]
    own = {
        "index": number,
        "category": category,
        "l2_category": rng.choice(l2[category]),
        "answer": right,
        "meta_info": {"s": 1},
    }
    question = "Which?\nOptions: A: one, B: two, C: three, D: four"
    return {"image": picture(number), "question": question, **own, "_right": right}


def _mmmu(number, rng):
    chosen = number % 3 != 2
    right = rng.choice(LETTERS) if chosen else "12"
    images = {f"image_{one}": picture(number + one) if one <= 1 + number % 2 else None for one in range(1, 8)}
    subject = ("Art", "Math", "Finance")[number % 3]
    own = {
        "id": f"validation_{subject}_{number}",
        "options": str(_options(rng)) if chosen else "[]",
        "question_type": "multiple-choice" if chosen else "open",
        "answer": right,
    }
    marks = "<image 1> and <image 2>" if number % 2 else "<image 1>"
    return {"question": f"See {marks}: which?", **own, **images, "_right": right}


def _mmbench(number, rng):
    question, turn = number // 3, number % 3
    right = LETTERS[turn]
    own = {
        "index": question + 1_000_000 * turn,
        "hint": "nan",
        "category": ("action", "ocr")[question % 2],
        "source": "x",
    }
    options = dict(zip(LETTERS, _options(rng), strict=True))
    names = {
        "question": f"Which is {question}?",
        "answer": right,
        "L2-category": "coarse",
        "split": "dev",
        "comment": "nan",
    }
    return {"image": picture(number), **own, **options, **names, "_right": right}


def _seed(number, rng):
    right, kind = rng.choice(LETTERS), ("image", "video")[number % 4 == 3]
    choices = {f"choice_{letter.lower()}": text for letter, text in zip(LETTERS, _options(rng), strict=True)}
    own = {"answer": right, "data_type": kind, "question_id": str(number), "question_type_id": 1}
    images = [picture(number + one) for one in range(1 if kind == "image" else 3)]
    return {"image": images, "question": "Which?", **choices, **own, "_right": right}


def _captions(number, rng):
    return [
        f"{rng.choice(['a', 'the'])} {rng.choice(['dog', 'man'])} rides {rng.choice(WORDS)} {number}" for _ in range(5)
    ]


def _textcaps(number, rng):
    found = _captions(number, rng)
    return {"image": picture(number), "image_id": number, "question": "", "caption_str": found, "_right": found[0]}


def _nocaps(number, rng):
    found = _captions(number, rng)
    return {"image": picture(number), "image_id": number, "annotations_captions": found, "_right": found[0]}


def _coco(number, rng):
    found = _captions(number, rng)
    own = {"question_id": f"{number:012d}.jpg", "id": number, "answer": found}
    return {"image": picture(number), "question": "", **own, "_right": found[0]}


def _flickr(number, rng):
    found = _captions(number, rng)
    return {"image": picture(number), "img_id": str(number), "caption": found, "_right": found[0]}


def _refcoco(number, rng):
    box, answers = [2.0 + number % 5, 1.0, 9.0, 8.0], _captions(number, rng)[:2]
    own = {
        "question_id": str(number),
        "question": "",
        "answer": answers,
        "bbox": box,
        "segmentation": [1.0, 1.0, 5.0, 5.0],
    }
    return {"image": picture(number), **own, "_right": answers[0]}


def _box(number, rng):  # two sentences a row make two documents
    left = (2.0 + number % 5) / 24
    return _refcoco(number, rng) | {"_right": f"[{left:.3f}, 0.0625, {left + 9 / 24:.3f}, 0.5625]"}


def _mmvp(number, rng):
    right = "ab"[number % 2]
    own = {"Index": number + 1, "Question": "Is it left?", "Options": "(a) Yes (b) No", "Correct Answer": f"({right})"}
    return {"image": picture(number), **own, "_right": right.upper()}


def _muir(number, rng):
    right = rng.choice(LETTERS)
    images = [picture(number), picture(number + 1)]
    own = {
        "idx": str(number),
        "task": ("Counting", "Ordering")[number % 2],
        "image_relation": "pair",
        "image_type": "photo",
    }
    return {
        "image_list": images,
        "question": "<image><image> Which?",
        "options": _options(rng),
        "answer": right,
        **own,
        "_right": right,
    }


def _cv(number, rng):
    right = rng.choice(LETTERS)
    source = ("ADE20K", "COCO", "Omni3D")[number % 3]
    own = {"idx": number, "type": "3D" if source == "Omni3D" else "2D", "task": "Count", "source": source}
    prompt = {"choices": ["1", "2", "3", "4"], "answer": f"({right})", "prompt": "How many?\n(A) 1\n(B) 2"}
    return {"image": picture(number), "question": "How many?", **own, **prompt, "_right": right}


def _vstar(number, rng):
    right, category = rng.choice("AB"), ("direct_attributes", "relative_position")[number % 2]
    own = {"question_id": str(number), "text": "What colour? (A) red (B) blue", "label": right, "category": category}
    return {"image": picture(number), **own, "_right": right}


def _blink(number, rng):
    right = rng.choice(LETTERS)
    images = {f"image_{one}": picture(number) if one == 1 or (one == 2 and number % 2) else None for one in range(1, 5)}
    own = {"idx": f"val_{number}", "sub_task": "Counting", "choices": _options(rng), "answer": f"({right})"}
    return {
        **images,
        "question": "How many?",
        "prompt": "How many?\n(A) 1\n(B) 2\n(C) 3\n(D) 4",
        **own,
        "_right": right,
    }


TASKS = {
    "gqa": MadeUp("GQA/testdev_balanced_instructions", "testdev", _gqa),
    "pope": MadeUp("POPE", "test", _pope),
    "mme": MadeUp("MME", "test", _mme),
    "textvqa_val": MadeUp("textvqa", "validation", _vqa),
    "ocrbench": MadeUp("OCRBench", "test", _ocr),
    "mmbench_en_dev_static": MadeUp("MMBench/en", "dev", _mmbench),
    "scienceqa_img": MadeUp("ScienceQA/ScienceQA-IMG", "test", _sqa),
    "vqav2_val": MadeUp("VQAv2", "validation", _vqav2),
    "vqav2_val_lite": MadeUp("LMMs-Eval-Lite/vqav2_val", "lite", _vqav2),
    "vizwiz_vqa_val": MadeUp("VizWiz-VQA", "val", _vqa),
    "ok_vqa_val2014": MadeUp("OK-VQA", "val2014", _vqa),
    "chartqa": MadeUp("ChartQA", "test", _chart),
    "docvqa_val": MadeUp("DocVQA/DocVQA", "validation", _doc),
    "infovqa_val": MadeUp("DocVQA/InfographicVQA", "validation", _doc),
    "ai2d": MadeUp("ai2d", "test", _ai2d),
    "realworldqa": MadeUp("RealWorldQA", "test", _realworld),
    "mmstar": MadeUp("MMStar", "val", _mmstar),
    "mmmu_val": MadeUp("MMMU", "validation", _mmmu),
    "seedbench": MadeUp("SEED-Bench", "test", _seed),
    "mmvp": MadeUp("MMVP", "train", _mmvp),
    "muirbench": MadeUp("MUIRBENCH", "test", _muir),
    "cv_bench": MadeUp("CV-Bench/default", "test", _cv),
    "vstar_bench": MadeUp("vstar-bench", "test", _vstar),
    "blink_counting": MadeUp("BLINK/Counting", "val", _blink),
    "refcoco_bbox_rec_val": MadeUp("RefCOCO", "val", _box),
    "refcoco_bbox_val": MadeUp("RefCOCO", "val", _refcoco),
    "textcaps_val": MadeUp("TextCaps", "val", _textcaps),
    "nocaps_val": MadeUp("NoCaps", "validation", _nocaps),
    "coco2017_cap_val": MadeUp("COCO-Caption2017", "val", _coco),
    "flickr30k_test": MadeUp("flickr30k", "test", _flickr),
}


def rows(task: str, count: int = ROWS, seed: int = 0) -> list[dict]:
    """The documents of a task, and what would be right under "_right"; the same for the same arguments."""
    rng = random.Random(f"{task} {seed}")
    return [TASKS[task].row(number, rng) for number in range(count)]


def answers(task: str, count: int = ROWS, seed: int = 0) -> dict[int, str]:
    """doc_id → an answer: half of them right, others a wrong one, one of a few words, one with a dot, an empty one."""
    rng = random.Random(seed)
    right = [row["_right"] for row in rows(task, count) for _ in range(2 if task == "refcoco_bbox_rec_val" else 1)]
    odd = [lambda one: rng.choice(right), lambda one: f"{one}.", lambda one: f" The answer is {one}", lambda one: ""]
    return {doc: one if doc % 2 == 0 else odd[doc // 2 % 4](one) for doc, one in enumerate(right)}


def save(root: Path, tasks: Iterable[str] = TASKS, count: int = ROWS) -> Path:
    """Write the data of tasks below `root`, each once. Returns `root`."""
    for task in tasks:
        made = TASKS[task]
        if not (root / made.folder).exists():
            _data_set([_columns(row) for row in rows(task, count)], made.split).save_to_disk(root / made.folder)
        if task == "gqa":
            images = [{"id": f"n{number}", "image": picture(number)} for number in range(3)]
            _data_set(images, "testdev").save_to_disk(root / "GQA/testdev_balanced_images")
    return root


def _columns(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith("_")}


def _data_set(found: list[dict], split: str) -> DatasetDict:
    """Images as files, as on the hub."""
    plain = [{name: value for name, value in row.items() if not _pictures(name, found)} for row in found]
    features = dict(Dataset.from_list(plain).features)
    for name in found[0]:
        if _pictures(name, found):
            several = any(isinstance(row[name], list) for row in found)
            features[name] = List(Image()) if several else Image()
    columns = {name: [row[name] for row in found] for name in found[0]}
    ordered = Features({name: features[name] for name in columns})
    return DatasetDict({split: Dataset.from_dict(columns, features=ordered)})


def _pictures(name: str, found: list[dict]) -> bool:
    values = [one for row in found for one in (row[name] if isinstance(row[name], list) else [row[name]])]
    return any(isinstance(one, PILImage.Image) for one in values) or (name.startswith("image_") and not any(values))
