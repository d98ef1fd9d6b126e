"""The written data sets: fields, types and splits of the real benchmarks, deterministic and idempotent."""

import io

import pytest
import yaml
from datasets import Image as ImageFeature
from datasets import load_from_disk
from PIL import Image

from tasks.toy.generate import FEATURES, build, generate
from tasks.toy.samples import SUB_TASKS

# From the data set cards and from what lmms-eval 0.7.3's task code reads: split, and the fields by type.
EXPECTED = {
    name: (split, yaml.safe_load(f"{{{fields}}}"))
    for name, split, fields in (
        (
            "interleave_in_domain",
            "test",
            ", ".join(f"image_{i}: image" for i in range(12))
            + ", sample_id: int64, sub_task: string, question: string, answer: string, question_type: string",
        ),
        (
            "interleave_multi_view",
            "test",
            ", ".join(f"image_{i}: image" for i in range(8))
            + ", sample_id: int64, sub_task: string, conversations: [{from: string, value: string}], answer: string, "
            "task_instruction_id: int64, task_instruction: 'null', question_type: string",
        ),
        (
            "flickr30k",
            "test",
            "image: image, caption: [string], sentids: [string], split: string, img_id: string, filename: string",
        ),
        (
            "coco2017",
            "val",
            "question_id: string, image: image, question: string, answer: [string], id: int64, license: int64, "
            "file_name: string, coco_url: string, height: int64, width: int64, date_captured: string",
        ),
        *(
            (
                name,
                "test",
                "dataset: string, image: string, binary: binary, GT_Caption_GPT4O: string, GT_Caption_GPT4V: string, "
                "GT_Caption_Gemini15Pro: string",
            )
            for name in ("detailcaps", "long")
        ),
        ("reading", "test", "dataset: string, question: string, question_type: string, answer: [string], image: image"),
        (
            "finding",
            "test",
            "id: string, imageId: string, image: image, question: string, answer: string, fullAnswer: string, "
            "types: {structural: string}",
        ),
    )
}


def described(feature) -> object:
    if isinstance(feature, ImageFeature):
        return "image"
    if hasattr(feature, "feature"):
        return [described(feature.feature)]
    if isinstance(feature, dict):
        return {name: described(part) for name, part in feature.items()}
    return feature.dtype


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy")
    assert generate(out, samples=5)
    return out


@pytest.mark.parametrize("name", EXPECTED)
def test_fields_types_and_split(written, name):
    split, fields = EXPECTED[name]
    loaded = load_from_disk(written / name)
    assert list(loaded) == [split]
    assert {key: described(feature) for key, feature in loaded[split].features.items()} == fields
    assert set(FEATURES) == set(EXPECTED)


def test_default_has_48_samples_per_benchmark():
    rows = build("interleave_in_domain")["test"]
    counts = {name: sum(task in names for task in rows["sub_task"]) for name, names in SUB_TASKS.items()}
    assert (counts["sd"], counts["ie"], counts["vst"]) == (48, 48, 48)
    views = build("interleave_multi_view")["test"]
    assert [views["sub_task"].count(name) for name in SUB_TASKS["mv"]] == [10] * 5
    assert len(build("flickr30k")["test"]) == len(build("coco2017")["val"]) == len(build("detailcaps")["test"]) == 48


def test_rows_hold_what_the_tasks_read(written):
    for row in load_from_disk(written / "interleave_in_domain")["test"]:
        shown = [row[f"image_{i}"] for i in range(12) if row[f"image_{i}"] is not None]
        assert row["question"].count("<image>") == len(shown) >= 2
        assert row["question_type"] == "open-ended"
    for row in load_from_disk(written / "interleave_multi_view")["test"]:
        turns = row["conversations"]
        shown = [row[f"image_{i}"] for i in range(8) if row[f"image_{i}"] is not None]
        assert sum(turn["value"].count("<image>") for turn in turns) == len(shown) == 3
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2) + ["human"]
        if row["question_type"] == "multi-choice":
            assert row["answer"] in "ABCD" and f"{row['answer']}. " in turns[-1]["value"]
    for row in load_from_disk(written / "flickr30k")["test"]:
        assert len(row["caption"]) == len(row["sentids"]) == 5 and int(row["img_id"]) >= 0
    for row in load_from_disk(written / "coco2017")["val"]:
        assert len(row["answer"]) == 5 and int(row["question_id"].split("_")[-1].split(".")[0]) == row["id"]
    for row in load_from_disk(written / "detailcaps")["test"]:
        assert Image.open(io.BytesIO(row["binary"])).size == (96, 96)
        assert len(row["GT_Caption_GPT4V"].split()) >= 60


def test_generation_is_deterministic_and_idempotent(written, tmp_path):
    assert not generate(written, samples=5)
    assert generate(tmp_path, samples=5)
    for name, (split, _) in EXPECTED.items():
        one, two = load_from_disk(written / name)[split], load_from_disk(tmp_path / name)[split]
        assert one.data.table.equals(two.data.table)
    assert generate(tmp_path, samples=6)
    assert len(load_from_disk(tmp_path / "flickr30k")["test"]) == 6
