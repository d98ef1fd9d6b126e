"""One answer per prompt whatever a checkpoint says; what cannot be served is refused by name before anything is."""

import dataclasses
import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from plphp_core import PLPHP
from plphp_core.evaluation import generation, options
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.loading import LoadOnce, load
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.records.errors import UserError
from plphp_core.records.journal_lines import SampleError, SampleLine, encoded, parsed
from tests.evaluation.factories import TASK, alone, content, never, own_tasks, run, settings

IMAGE = Image.effect_noise((20, 30), 50).convert("RGB")
GREEDY = {"max_new_tokens": 8, "do_sample": False}
ASIDE = [
    {"num_beams": 2, "num_return_sequences": 2},
    {"num_beams": 3, "length_penalty": -2.0, "early_stopping": True},
    {"do_sample": True, "temperature": 5.0, "top_k": 0, "num_return_sequences": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": True},
    {"max_time": 1e-6},
    {"max_length": 3, "max_new_tokens": 1},
    {"cache_implementation": "static"},
    {"use_cache": False},
]
REFUSED = [
    {"guidance_scale": 1.5},
    {"stop_strings": ["red"]},
    {"prompt_lookup_num_tokens": 2},
    {"prefill_chunk_size": 4},
    {"penalty_alpha": 0.6},
    {"constraints": ["x"]},
    {"token_healing": True},
]


@pytest.fixture
def checkpoint(world, tmp_path):
    """A copy of the little world's checkpoint that says more about generation."""

    def go(**changes):
        folder = shutil.copytree(world / "checkpoint", tmp_path / "changed", dirs_exist_ok=True)
        known = json.loads((world / "checkpoint" / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps(known | changes))
        return folder

    return go


def model_settings(world, folder, engine="generate"):
    return dataclasses.replace(settings(world).model, checkpoint=str(folder), engine=engine)


def requests(count=3, **generation):
    return [Request("red <image> ?" * n, GREEDY | generation, lambda n=n: [IMAGE] * n, n) for n in range(1, count + 1)]


METHODS = [None, PLPHP(alpha=0.8, beta=0.6)]


@pytest.fixture(scope="module", params=["generate", "fast"])
def undisturbed(request, world, loader):
    """An engine, and what it answers where the checkpoint says nothing."""
    plain = dataclasses.replace(loader(settings(world).model), engine=request.param)
    return request.param, dict(JointAnswerer(plain).answer(requests(), METHODS))


@pytest.mark.parametrize("changes", ASIDE, ids=lambda changes: next(iter(changes)))
def test_a_checkpoint_does_not_decide_how_a_run_searches(world, checkpoint, changes, undisturbed):
    """The very answers and costs of the checkpoint without it, in a shared batch too, and none of them fails once."""
    engine, wanted = undisturbed
    changed = load(model_settings(world, checkpoint(**changes), engine))
    found = dict(JointAnswerer(changed).answer(requests(), METHODS))
    assert [content(found[method]) for method in METHODS] == [content(wanted[method]) for method in METHODS]
    assert list(found) == list(wanted)  # nobody had to try again


@pytest.mark.parametrize("changes", [{"repetition_penalty": 9.0}, {"suppress_tokens": list(range(0, 60))}])
def test_what_chooses_other_tokens_is_obeyed(world, loader, checkpoint, changes):
    plain, changed = loader(settings(world).model), load(model_settings(world, checkpoint(**changes)))
    answers = [alone(one, None, requests(1))[0][1] for one in (plain, changed)]
    assert answers[0].text != answers[1].text


@pytest.mark.parametrize("changes", REFUSED, ids=lambda changes: next(iter(changes)))
def test_a_checkpoint_that_cannot_be_served_is_refused_by_name(
    world, checkpoint, tmp_path, display, monkeypatch, changes
):
    ((name, value),) = changes.items()
    monkeypatch.setattr(JointAnswerer, "answer", never)
    run_settings = settings(world, results=tmp_path / "mini")
    run_settings = dataclasses.replace(run_settings, model=model_settings(world, checkpoint(**changes)))
    with pytest.raises(UserError, match=r"generation_config\.json sets ") as caught:
        run(run_settings, {}, LoadOnce())
    assert f"{name}={value!r}" in str(caught.value)


def test_what_only_the_fast_engine_lacks_is_refused_for_it_alone(world, checkpoint):
    folder = checkpoint(begin_suppress_tokens=[7])
    load(model_settings(world, folder))
    with pytest.raises(UserError, match=r"begin_suppress_tokens=\[7\].*engine=fast.*or use engine=generate"):
        load(model_settings(world, folder, "fast"))


@pytest.mark.parametrize(
    ("engine", "generation", "said"),
    [
        ("generate", "guidance_scale: 1.5", "task mini_c sets guidance_scale=1.5"),
        ("generate", "num_return_sequences: 2", "num_return_sequences=2"),
        ("generate", "return_dict_in_generate: true", "return_dict_in_generate=True"),
        ("generate", "max_gen_toks: 5", "max_gen_toks=5"),
        ("fast", "num_beams: 2", "num_beams=2, which an evaluation with engine=fast does not do"),
        ("fast", "bad_words_ids: [[3]]", r"bad_words_ids"),
    ],
)
def test_a_task_that_cannot_be_served_is_refused_before_data_and_weights(
    world, tmp_path, display, engine, generation, said
):
    text = TASK.format(name="mini_c", data="data/mini_a").replace("do_sample: false", f"do_sample: false, {generation}")
    own_tasks(world, tmp_path, mini_c=text)
    run_settings = dataclasses.replace(settings(world, tasks=("mini_c",), results=tmp_path / "mini"), root=tmp_path)
    model = dataclasses.replace(run_settings.model, engine=engine)
    with pytest.raises(UserError, match=said):
        run(dataclasses.replace(run_settings, model=model), {}, never, display)


def test_neutral_values_of_a_task_are_no_options():
    neutral = {"num_beams": 1, "num_return_sequences": 1, "min_new_tokens": 0, "guidance_scale": 1.0, "use_cache": True,
               "temperature": 0, "top_p": None, "until": ["\n"], "image_aspect_ratio": "pad", **GREEDY}  # fmt: skip
    for engine in ("generate", "fast"):
        assert options.refused_of_task(neutral, engine) == {}


def test_every_option_of_transformers_is_obeyed_set_aside_or_refused():
    """An option that a later release adds is refused until somebody has thought about it."""
    known = [name for name in GenerationConfig().to_dict() if not name.startswith("_")]
    left = set(known) - options.ASIDE - options.OBEYED - options.IDS - {"transformers_version"}
    assert set(options.refused_of_checkpoint(dict.fromkeys(known, "x"), "generate")) == left
    assert {"guidance_scale", "watermarking_config", "stop_strings"} <= left


def test_an_id_of_zero_is_an_option():
    """Token 0 is a token."""
    assert options.obeyed({"forced_eos_token_id": 0, "min_length": 0}) == {"forced_eos_token_id": 0}


def test_more_sequences_than_prompts_are_nobodys_answers(world, loader, monkeypatch):
    loaded = loader(settings(world).model)
    original = generation.decode_each

    def doubled(*arguments):
        for method, found in original(*arguments):
            yield method, dataclasses.replace(found, sequences=found.sequences.repeat_interleave(2, dim=0))

    monkeypatch.setattr(generation, "decode_each", doubled)
    for _, result in alone(loaded, None, requests(2)):
        assert isinstance(result, Failure) and "2 sequences came back for 1 prompts" in result.message


@pytest.mark.parametrize("engine", ["generate", "fast"])
def test_new_tokens_are_those_up_to_the_tasks_own_end(world, loader, engine):
    """In a batch, what stands behind an answer's end is padding: the count is that of the sample alone."""
    loaded = dataclasses.replace(loader(settings(world).model), engine=engine)
    free = [alone(loaded, None, [one])[0][1].text.split() for one in requests(3, max_new_tokens=16)]
    # A word that one answer says and another one does not.
    end = next(word for words in free for word in words if not all(word in others for others in free))
    end = loaded.processor.tokenizer.get_vocab()[end]
    asked = requests(3, max_new_tokens=16, eos_token_id=end)
    together = [answer for _, answer in alone(loaded, None, asked)]
    single = [alone(loaded, None, [one])[0][1] for one in asked]
    assert [one.new_tokens for one in together] == [one.new_tokens for one in single]
    assert [one.text for one in together] == [one.text for one in single]
    assert min(one.new_tokens for one in together) < max(one.new_tokens for one in together) == 16


def test_no_address_of_an_object_is_kept():
    failure = Failure.of(OSError(f"cannot identify image file {object()!r} or {torch.nn.Linear.forward!r}"))
    assert "<object object>" in failure.message and "0x" not in failure.message
    line = SampleLine(key="k", cell="c", doc_id=0, hardware="h", error=failure)
    kept = parsed(encoded(line)).error  # without the trace
    assert failure.trace and kept == SampleError(kind="OSError", message=failure.message)
