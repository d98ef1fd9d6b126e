"""What lmms-eval sees: ids, arguments, answers in order, failures that cannot be overlooked."""

import copy
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.models import get_model, list_available_models
from PIL import Image

from plphp_core.evaluation.data_sets import DataSets
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_model import GenerationErrors, speak_to
from plphp_core.evaluation.loading import load
from plphp_core.evaluation.options import generation_arguments
from plphp_core.evaluation.requests import Failure, Request, batches
from plphp_core.evaluation.task_index import _upstream
from plphp_core.families import family_names, get_family
from plphp_core.pruning.method import method_names
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints
from tests.evaluation.factories import alone, settings
from tests.upstream_data import save

FAMILY = get_family("llava_onevision")
GREEDY = {"max_new_tokens": 4, "do_sample": False, "temperature": 0, "until": ["\n\n"], "image_aspect_ratio": "pad"}


@pytest.fixture(scope="module")
def model(world):
    given = {"pretrained": str(world / "checkpoint"), "device": "cpu", "batch_size": "4", "r": 0.3}
    made = get_model("plphp_llava_onevision")(**given)
    assert (made.method.r, made.method.delta_r, made.batch_size, made.device.type) == (0.3, 0.3, 4, "cpu")
    return made


@pytest.fixture(scope="module")
def documents(world):
    from datasets import load_from_disk

    return load_from_disk(str(world / "data" / "mini_a"))


def visuals(doc):
    return [doc[name] for name in ("image_0", "image_1") if doc[name] is not None]


def instance(documents, doc_id, generation=GREEDY, look=visuals, **metadata):
    arguments = (documents["test"][doc_id]["question"], copy.deepcopy(generation), look, doc_id, "mini_a", "test")
    return Instance("generate_until", arguments, 0, {"task": "mini_a", "doc_id": doc_id, "repeats": 1, **metadata})


def test_every_method_and_family_is_registered_through_the_entry_point():
    expected = {f"{method}_{family}" for method in method_names() for family in family_names()}
    assert {"none_llava_onevision", "fastv_llava_onevision", "vtw_llava_onevision", "plphp_llava_onevision"} <= expected
    assert expected <= set(list_available_models())
    for name in expected:
        cls = get_model(name)
        assert cls.is_simple and f"{cls.method_name}_{cls.family_name}" == name and get_model(name) is cls


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("plphp", {"K": 3}, "no parameter K; known: r, delta_r, alpha, beta, gqa"),
        ("fastv", {"r": 0.4}, "no parameter r; known: K, R"),
        ("plphp", {"r": 0.4, "delta_r": 0.5}, "delta_r"),
        ("none", {"K": 1}, "takes no parameters"),
        ("plphp", {"dtype": "int8"}, r"unknown dtype 'int8'; allowed: float32 \(fp32"),
        ("plphp", {"batch_size": "auto"}, "auto is not supported"),
        ("plphp", {"pretrained": "/nowhere/at/all"}, "cannot load /nowhere/at/all"),
    ],
)
def test_arguments_that_cannot_be_served_are_refused_with_what_is_allowed(name, arguments, message, world):
    with pytest.raises(UserError, match=message):
        get_model(f"{name}_llava_onevision")(**{"pretrained": str(world / "checkpoint"), "device": "cpu"} | arguments)


def test_answers_come_back_in_order_with_token_counts(model, documents):
    """Batched and sorted inside, but each answer equals the one that its sample gets alone."""
    model.task_dict = {"mini_a": documents}
    requests = [instance(documents, doc_id) for doc_id in (7, 0, 3, 8, 1, 5)]
    together = model.generate_until(requests)
    assert all(isinstance(found, GenerationResult) and found.token_counts.output_tokens <= 4 for found in together)
    single = [model.generate_until([request])[0] for request in requests]
    assert [found.text for found in together] == [found.text for found in single]
    assert [f.token_counts.input_tokens for f in together] == [f.token_counts.input_tokens for f in single]
    assert len({found.text for found in together}) > 1


def test_generation_arguments_are_never_changed_nor_mixed(model, documents):
    model.task_dict = {"mini_a": documents}
    short = GREEDY | {"max_new_tokens": 1}
    requests = [instance(documents, n, short if n % 2 else GREEDY) for n in range(6)]
    before = [copy.deepcopy(request.args[1]) for request in requests]
    counts = [found.token_counts.output_tokens for found in model.generate_until(requests)]
    assert [request.args[1] for request in requests] == before
    assert counts[1::2] == [1, 1, 1] and all(count > 1 for count in counts[0::2])


def test_batches_depend_on_requests_only_and_hold_one_kind_of_generation():
    requests = [Request("w " * (n % 5) + "<image>" * (n % 3), {"n": n % 2}, list, n) for n in range(23)]
    found = batches(requests, 4)
    assert sorted(r.tag for batch in found for r in batch) == list(range(23))
    assert all(len(batch) <= 4 and len({r.generation["n"] for r in batch}) == 1 for batch in found)
    assert [[r.tag for r in b] for b in batches(requests, 4)] == [[r.tag for r in b] for b in found]
    marks = [r.context.count("<image>") for batch in found for r in batch if r.generation["n"] == 0]
    assert marks == sorted(marks, reverse=True)


def test_generation_arguments_follow_the_upstream_wrapper():
    """image_aspect_ratio and until go, 1024 new tokens by default, no sampling arguments without sampling."""
    greedy = generation_arguments(GREEDY, FAMILY, None)
    assert "until" not in greedy and "image_aspect_ratio" not in greedy and greedy["max_new_tokens"] == 4
    assert greedy["do_sample"] is False and greedy["temperature"] is None and greedy["top_p"] is None
    assert generation_arguments({}, FAMILY, None)["max_new_tokens"] == 1024
    sampled = generation_arguments({"do_sample": True, "temperature": 0.7}, FAMILY, None)
    assert sampled["temperature"] == 0.7 and "top_p" not in sampled


def test_failing_samples_raise_after_all_others_were_answered(model, documents):
    """Never an empty answer in their place."""
    model.task_dict = {"mini_a": documents}

    def broken(doc):
        raise OSError("image file is truncated")

    requests = [instance(documents, n, look=broken if n in (2, 5) else visuals) for n in range(7)]
    with pytest.raises(GenerationErrors) as caught:
        model.generate_until(requests)
    assert "2 samples could not be answered" in str(caught.value)
    assert "mini_a sample 2: OSError: image file is truncated" in str(caught.value) and "sample 5" in str(caught.value)


def test_a_truncated_image_is_a_failure(model):
    """Importing lmms-eval makes PIL accept half an image; a score on grey pixels would be nobody's."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    half = io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2])
    ((_, result),) = alone(model.loaded, None, [Request("what ?", GREEDY, lambda: [Image.open(half)])])
    assert isinstance(result, Failure) and "truncated" in result.message


def test_strange_images_are_converted_or_cost_only_their_sample_and_are_named(model):
    """A palette picture with transparency, an animation, an empty one and a plain one in one batch."""
    plain = Image.effect_noise((20, 30), 50).convert("RGB")
    see_through = plain.convert("RGBA")
    moving = io.BytesIO()
    plain.save(moving, "GIF", save_all=True, append_images=[plain.rotate(90)])
    given = [[see_through, plain.rotate(90)], [Image.open(moving)], [Image.new("RGB", (0, 3))], [plain]]
    requests = [Request("what ?", GREEDY, lambda images=images: images, n) for n, images in enumerate(given)]
    results = {request.tag: result for request, result in alone(model.loaded, None, requests)}
    assert results[0].image_notes == ["image 0: mode RGBA to RGB, transparency dropped"]
    assert "2 frames" in results[1].message and "0 × 3 pixels" in results[2].message
    assert results[3].image_notes == [] and results[3].new_tokens > 0


def test_more_images_than_marks_cost_only_their_sample(model):
    image = Image.effect_noise((20, 30), 50)
    requests = [Request("red <image> ?", GREEDY, lambda n=n: [image] * n, n) for n in (1, 3)]
    results = {request.tag: result for request, result in alone(model.loaded, None, requests)}
    assert not isinstance(results[1], Failure)
    assert "marks 1 images with <image>, but there are 3" in results[3].message


def test_padding_requests_cost_no_image_and_get_some_answer(model, documents):
    def never(doc):
        raise AssertionError("a padding request decodes nothing")

    model.task_dict = {"mini_a": documents}
    requests = [instance(documents, 0), instance(documents, 0, look=never, __padding_only__=True)]
    assert len(model.generate_until(requests)) == 2


def test_prompts_are_padded_left_and_the_text_of_the_family(model, documents, monkeypatch):
    seen = {}
    original = type(model.loaded.model).generate

    def generate(self, **inputs):
        seen.update(inputs)
        return original(self, **inputs)

    monkeypatch.setattr(type(model.loaded.model), "generate", generate)
    model.task_dict = {"mini_a": documents}
    model.generate_until([instance(documents, n) for n in (0, 2, 4, 6)])
    mask = seen["attention_mask"]
    assert (mask[:, -1] == 1).all() and (mask.sort(dim=1).values == mask).all() and (mask == 0).any()
    text = model.loaded.processor.tokenizer.decode(seen["input_ids"][0][mask[0] == 1])
    assert "You are <unk> helpful" in text and seen["do_sample"] is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmstar", "mmmu_val"])
def test_a_task_asks_a_family_as_it_asks_lmms_evals_own_model_of_it(name, tmp_path, caplog):
    """lmms-eval has built the requests by our id, for which no task has prompts."""
    data = DataSets(save(tmp_path, [name]), Fingerprints(tmp_path / "hashes"))

    def asked(model):
        with data.in_place():
            task = _upstream(model).load_config({"task": name, "dataset_kwargs": {}})[name]
        task.build_all_requests(limit=None, rank=0, world_size=1)
        return task.instances

    right, ours = asked("qwen3_vl"), asked("plphp_qwen3_vl")
    assert [one.args[0] for one in ours] != [one.args[0] for one in right]
    speak_to("qwen3_vl", ours)
    assert [one.args[:2] + one.args[3:] for one in ours] == [one.args[:2] + one.args[3:] for one in right]
    speak_to("qwen3_vl", ours)  # a second time, as for a second rank's requests
    assert [one.args[0] for one in ours] == [one.args[0] for one in right]
    assert not caplog.text
    others = asked("plphp_qwen3_vl")
    others[0].arguments = (f"Look. {others[0].args[0]}", *others[0].args[1:])  # as with a system instruction
    before = [one.args for one in others]
    speak_to("qwen3_vl", others)
    assert [one.args for one in others] == before and f"task {name} asks plphp_qwen3_vl as any model" in caplog.text


@pytest.mark.slow
def test_command_line_of_lmms_eval(world, tmp_path):
    """`python -m lmms_eval --model plphp_llava_onevision …` prints and stores scores."""
    command = [sys.executable, "-m", "lmms_eval", "--model", "plphp_llava_onevision", "--include_path", "tasks",
               "--model_args", "pretrained=checkpoint,r=0.4,delta_r=0.3", "--tasks", "mini_a,mini_b", "--limit", "2",
               "--batch_size", "2", "--device", "cpu", "--output_path", str(tmp_path / "out")]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "overlap" in done.stdout and "mini_b" in done.stdout
    (found,) = Path(tmp_path / "out").rglob("*results.json")
    assert json.loads(found.read_text())["throughput"]["avg_vision_retention"] < 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("r=0.4,K=3", "method 'plphp' has no parameter K; known: r, delta_r, alpha, beta, gqa"),
        ("r=nine", "r = 'nine'"),
        ("engine=turbo", "unknown engine 'turbo'; allowed: fast, generate"),
    ],
)
def test_wrong_arguments_end_lmms_evals_command_line_with_exit_code_1(world, monkeypatch, arguments, said):
    """It would print a traceback and report success."""
    from lmms_eval.utils import simple_parse_args_string

    given = simple_parse_args_string(f"pretrained={world / 'checkpoint'},{arguments}")
    monkeypatch.setattr(sys, "argv", ["/venv/site-packages/lmms_eval/__main__.py"])
    with pytest.raises(SystemExit, match="error: ") as caught:
        get_model("plphp_llava_onevision")(**given, device="cpu")
    assert said in caught.value.code


@pytest.mark.slow
def test_lmms_evals_command_line_says_what_is_wrong_and_fails(world, tmp_path):
    command = [sys.executable, "-m", "lmms_eval", "--model", "fastv_llava_onevision", "--include_path", "tasks",
               "--model_args", "pretrained=checkpoint,K=0", "--tasks", "mini_a", "--limit", "1",
               "--device", "cpu"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "error: method fastv with {'K': 0}: FastV: K = 0, but must be a whole number from 1 on" in done.stderr


def test_what_only_scores_choices_ends_the_command_line_too(model, monkeypatch):
    with pytest.raises(NotImplementedError):
        model.loglikelihood([])
    monkeypatch.setattr(sys, "argv", ["/venv/bin/lmms-eval"])
    with pytest.raises(SystemExit, match="only generate"):
        model.loglikelihood([])


def test_a_task_that_cannot_be_served_is_refused_before_its_first_sample(model, documents, monkeypatch):
    model.task_dict = {"mini_a": documents}
    monkeypatch.setattr(JointAnswerer, "answer", lambda *_: pytest.fail("answered"))
    with pytest.raises(UserError, match=r"task mini_a sets guidance_scale=1\.5"):
        model.generate_until([instance(documents, 0, GREEDY | {"guidance_scale": 1.5})])


def test_failing_samples_end_lmms_evals_command_line_with_exit_code_1(model, documents, monkeypatch):
    """It would catch any other exception, print it, and report success."""
    monkeypatch.setattr(sys, "argv", ["/venv/site-packages/lmms_eval/__main__.py"])
    model.task_dict = {"mini_a": documents}
    with pytest.raises(SystemExit, match="1 samples could not be answered, so there is no score"):
        model.generate_until([instance(documents, 0), instance(documents, 1, look=lambda doc: ["not an image"])])


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_missing_device_is_named_before_weights_are_read(world):
    with pytest.raises(UserError, match="no CUDA device is available"):
        load(dataclasses.replace(settings(world).model, device="cuda", checkpoint="/nowhere"))


def test_beams_do_not_mix_the_costs_of_samples(model):
    image = Image.effect_noise((20, 30), 50).convert("RGB")
    beams = GREEDY | {"num_beams": 2}
    requests = [Request("red <image> ?" * n, beams, lambda n=n: [image] * n, n) for n in (1, 2, 0)]
    together = alone(model.loaded, model.method, requests)
    for request, found in together:
        ((_, single),) = alone(model.loaded, model.method, [request])
        assert (found.retention, found.kv_bytes) == (single.retention, single.kv_bytes) and found.text == single.text
    ((_, found),) = alone(model.loaded, model.method, [Request("red ?", GREEDY | {"num_return_sequences": 2}, list)])
    assert "num_return_sequences" in found.message
    ((_, found),) = alone(model.loaded, model.method, [Request("red ?", GREEDY | {"num_beams": None}, list)])
    assert not isinstance(found, Failure)
