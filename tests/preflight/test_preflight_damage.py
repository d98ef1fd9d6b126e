"""Every damage to a checkpoint is found, with a remedy that names it and a non-zero exit; good checkpoints pass."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from plphp_core.evaluation.answering import Request
from plphp_core.evaluation.loading import load
from plphp_core.preflight import answers as answers_module
from plphp_core.preflight.answers import answers
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Status, exit_code, run_checks
from plphp_core.preflight.checklist import SECTIONS, preflight
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.device import attention, device
from plphp_core.preflight.drawing import drawn
from plphp_core.preflight.generation import generation
from plphp_core.preflight.headers import read_header
from plphp_core.preflight.model import configuration
from plphp_core.preflight.tokens import tokenizer
from plphp_core.records.errors import UserError
from tests.configured import ROOT, configured
from tests.preflight import damage

CHECKPOINTS = ROOT / "tasks" / "toy" / "checkpoints"
# All that looks at the checkpoint. Data and Java have tests of their own.
SOME = {"Device": (device, attention), **{name: SECTIONS[name] for name in ("Checkpoint", "Room", "Real weights")}}
EVERY = [check for checks in SOME.values() for check in checks]


def case(folder: Path, model: str = "llava_onevision", *overrides: str) -> Case:
    settings = configured("profile=toy", f"model={model}", f"model.checkpoint={folder}", "tasks=[sd]", *overrides)
    return Case(settings)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(CHECKPOINTS / "llava_onevision", tmp_path / "checkpoint"))


# damage, check that finds it, what is found, what its remedy names
DAMAGES = [
    (damage.without_config, "Checkpoint files", "no config.json", "copy it"),
    (damage.without_weights, "Checkpoint files", "no model.safetensors", "weights"),
    (damage.truncated_weights, "Checkpoint files", "bytes where its header promises", "copy model.safetensors"),
    (damage.pointer_instead_of_weights, "Checkpoint files", "Git LFS pointer", "copy model.safetensors again"),
    (damage.missing_shard, "Checkpoint files", "00002-of-00002.safetensors is missing", "model-00002-of-00002"),
    (damage.swapped_shards, "Checkpoint files", "disagree about", "copy model-00002-of-00002"),
    (damage.dangling_link, "Checkpoint files", "a link to nothing", "copy model.safetensors"),
    (damage.only_pickled, "Checkpoint files", "only pickled weights", "safetensors"),
    (damage.torn_config, "Configuration", "config.json cannot be read", "config.json again"),
    (damage.other_architecture, "Configuration", "LlavaNextForConditionalGeneration", "choose the model="),
    (damage.other_model_type, "Configuration", "'llava_next' makes a LlavaNext", "choose the model="),
    (damage.unknown_model_type, "Configuration", "llava_of_tomorrow", "restore config.json"),
    (damage.layers_and_types_disagree, "Configuration", "num_hidden_layers", "restore config.json"),
    (damage.uneven_kv_heads, "Decoder", "not a multiple of num_key_value_heads 3", "config.json"),
    (damage.more_layers, "Weights", "layers 8 are missing", "num_hidden_layers (9"),
    (damage.fewer_layers, "Weights", "layers 7 that config.json does not have", "num_hidden_layers (7"),
    (damage.lost_tensor, "Weights", "layers.3.mlp.up_proj.weight", "copy the weights again"),
    (damage.larger_vocabulary, "Weights", "not (300, 128)", "vocab_size is wrong"),
    (damage.smaller_vocabulary, "Tokenizer", "but vocab_size is 200", "vocab_size"),
    (damage.other_kv_heads, "Weights", "k_proj", "num_key_value_heads"),
    (damage.other_vision_patch_size, "Weights", "patch_embedding", "vision_config.patch_size"),
    (damage.torn_tokenizer, "Tokenizer", "no tokenizer can be read", "tokenizer.json"),
    (damage.without_tokenizer, "Tokenizer", "no tokenizer can be read", "tokenizer.json"),
    (damage.without_special_token, "Tokenizer", "<|im_start|> is", "<|im_start|> as one token"),
    (damage.no_end_token, "Answer's end", "generation_config.json names no token", "eos_token_id"),
    (damage.other_image_token, "Image token", "image_token_id 7, but the tokenizer's <image> is", "image_token_id"),
    (damage.image_token_beyond_vocabulary, "Image token", "image_token_id 100000, but vocab_size is", "image_token_id"),
    (damage.without_processor, "Processor", "no processor can be read", "processor_config.json"),
    (damage.other_patch_size, "Processor", "num_image_tokens is 49", "num_image_tokens"),
    (damage.other_tile, "Processor", "56 pixels", "size in the processor's files"),
    (damage.without_chat_template, "Chat template", "no chat template", "chat_template.jinja"),
    (damage.short_window, "Longest prompt", "sliding_window 100 is too short", "sliding_window to null"),
    (damage.nan_weights, "Answers", "layers.4.mlp.gate_proj.weight", "copy the weights again"),
    (damage.zero_weights, "Answers", "nothing but zeros", "copy the weights again"),
    (damage.config_of_no_object, "Configuration", "holds a list, not an object", "config.json again"),
    (damage.torn_generation_config, "Generation", "cannot be read", "generation_config.json again"),
    (damage.pointer_instead_of_tokenizer, "Checkpoint files", "tokenizer.json is a Git LFS", "git lfs pull"),
    (damage.names_of_another_family, "Weights", "no tensor name fits this family", "another model's"),
    (damage.tokenizer_of_another_model, "Image token", "but the tokenizer's <image> is", "may be another model's"),
    (damage.same_logits, "Answers", "all the same or infinitely far apart", "float32 or damaged weights; copy"),
]


@pytest.mark.parametrize("break_it, title, found, remedy", DAMAGES, ids=[one.__name__ for one, *_ in DAMAGES])
def test_damage_is_found_where_it_is_and_the_remedy_names_it(break_it, title, found, remedy, copy):
    break_it(copy)
    results = {result.check.title: result for result in run_checks(EVERY, case(copy))}
    assert exit_code(list(results.values())) == 1
    failures = [finding for finding in results[title].findings if finding.status is Status.FAILED]
    assert any(found in finding.found and remedy in finding.remedy for finding in failures), results[title]
    assert all(finding.remedy and not finding.trace for result in results.values() for finding in failures), failures
    if title == "Weights":  # it never says that all is well after all
        assert all(finding.status is Status.FAILED for finding in results[title].findings)
    if title == "Answers":  # float32 is no narrower
        assert not any("bfloat16" in finding.remedy for finding in failures)
    # What does not depend on it was looked at all the same.
    assert results["Device"].status is results["Attention"].status is Status.OK
    assert results["Disk"].usable


CONFIG, PROCESSOR, GENERATION = "config.json", "processor_config.json", "generation_config.json"
EAGER = {"_attn_implementation": "eager"}
OF_FAMILIES = [
    ("mantis", damage.editing(CONFIG, image_token_index=7), "Image token", "image_token_id 7", "image_token_id"),
    ("mantis", damage.rename_token("<|eot_id|>"), "Tokenizer", "<|eot_id|> is", "<|eot_id|> as one token"),
    (
        "mantis",
        damage.editing(PROCESSOR, image_processor__size={"height": 56, "width": 56}),
        "Processor",
        "56 pixels high",
        "size in the processor's files",
    ),
    ("idefics2", damage.editing(CONFIG, image_token_id=7), "Image token", "image_token_id 7", "image_token_id"),
    ("idefics2", damage.editing(PROCESSOR, image_seq_len=64), "Processor", "image_seq_len is 64", "image_seq_len"),
    (
        "idefics2",
        damage.editing(CONFIG, text_config__sliding_window=100),
        "Longest prompt",
        "sliding_window 100 is too short",
        "sliding_window to null",
    ),
    ("idefics2", damage.template("<end_of_utterance>", "</s>"), "Chat template", "</s>", "chat_template.jinja"),
    ("idefics2", damage.template("{%", "{% %"), "Chat template", "does not render", "chat_template.jinja"),
    ("idefics2", damage.rename_token("<end_of_utterance>"), "Tokenizer", "<end_of_utterance> is", "as one token"),
    ("qwen2_vl", damage.editing(CONFIG, image_token_id=7), "Image token", "image_token_id 7", "image_token_id"),
    (
        "qwen2_vl",
        damage.editing(PROCESSOR, image_processor__patch_size=14),
        "Processor",
        "image_processor.patch_size is 14",
        "patch_size",
    ),
    (
        "qwen2_vl",
        damage.editing(PROCESSOR, image_processor__merge_size=4),
        "Processor",
        "image_processor.merge_size is 4",
        "merge_size",
    ),
    (
        "qwen2_vl",
        damage.editing(CONFIG, text_config__rope_parameters__mrope_section=[4, 6, 7]),
        "Decoder",
        "mrope_section [4, 6, 7] covers 34 of the 32 numbers",
        "half of head_dim",
    ),
    ("qwen2_vl", damage.editing(CONFIG, text_config=None), "Configuration", "text_config is missing", "config.json"),
    (
        "llava_onevision",
        damage.editing(GENERATION, guidance_scale=1.5),
        "Generation",
        "guidance_scale=1.5: no run with engine=generate does that",
        "take it out",
    ),
    (
        "llava_onevision",
        damage.editing(GENERATION, num_return_sequences=2),
        "Generation",
        "transformers cannot load it: Greedy methods",
        "restore",
    ),
    ("llava_onevision", damage.editing(GENERATION, eos_token_id=77), "Generation", "[77] is not what", "restore"),
    ("idefics2", damage.editing(GENERATION, eos_token_id=[2, 77]), "Generation", "77 is no special", "restore"),
    (
        "mantis",
        damage.editing(PROCESSOR, image_processor__do_rescale=False),
        "Processor",
        "do_rescale is false",
        "set do_rescale to true",
    ),
    ("qwen2_vl", damage.without_chat_template, "Chat template", "no chat template", "chat_template.jinja"),
]


@pytest.mark.parametrize("family, break_it, title, found, remedy", OF_FAMILIES)
def test_damage_to_other_families(family, break_it, title, found, remedy, tmp_path):
    copied = Path(shutil.copytree(CHECKPOINTS / family, tmp_path / family))
    break_it(copied)
    results = {result.check.title: result for result in run_checks(EVERY, case(copied, family))}
    assert exit_code(list(results.values())) == 1
    failures = [finding for finding in results[title].findings if finding.status is Status.FAILED]
    assert any(found in finding.found and remedy in finding.remedy for finding in failures), results[title]


@pytest.mark.parametrize(
    "family, changes, status, found",
    [
        (
            "qwen2_vl",
            {"repetition_penalty": 1.05, "min_length": 0},
            Status.OK,
            "as configured: repetition_penalty=1.05",
        ),
        ("qwen2_vl", {"eos_token_id": 77}, Status.WARNING, "Qwen2-VL does not use it"),
        ("llava_onevision", {"use_cache": False}, Status.WARNING, "use_cache=False: not taken over"),
        (
            "llava_onevision",
            {"num_beams": 2, "num_return_sequences": 2, "return_dict_in_generate": True},
            Status.WARNING,
            "num_beams=2, num_return_sequences=2, return_dict_in_generate=True: not taken over",
        ),
        ("qwen2_vl", {"do_sample": True, "temperature": 0.01, "top_k": 1}, Status.OK, "nothing that changes greedy"),
        ("llava_onevision", {"repetition_penalty": 1.0}, Status.OK, "nothing that changes greedy answers"),
    ],
)
def test_what_generation_config_changes_is_said(family, changes, status, found, tmp_path):
    copied = Path(shutil.copytree(CHECKPOINTS / family, tmp_path / family))
    damage.edit(copied / GENERATION, **changes)
    *_, result = run_checks([checkpoint_files, configuration, tokenizer, generation], case(copied, family))
    assert result.status is status and found in " ".join(one.found for one in result.findings)
    assert len(result.findings) == 1


@pytest.mark.parametrize("engine, status", [("generate", Status.OK), ("fast", Status.FAILED)])
def test_what_is_obeyed_depends_on_the_engine(engine, status, tmp_path):
    """As a run does: one obeys it, the other refuses before anything is answered."""
    copied = Path(shutil.copytree(CHECKPOINTS / "llava_onevision", tmp_path / "copy"))
    damage.edit(copied / GENERATION, begin_suppress_tokens=[10], repetition_penalty=1.05)
    subject = case(copied, "llava_onevision", f"engine={engine}")
    *_, result = run_checks([checkpoint_files, configuration, tokenizer, generation], subject)
    said = " ".join(finding.found for finding in result.findings)
    assert result.status is status
    obeyed = (
        "begin_suppress_tokens=[10], repetition_penalty=1.05" if engine == "generate" else "repetition_penalty=1.05"
    )
    assert set(said.partition("as configured: ")[2].partition(";")[0].split(", ")) == set(obeyed.split(", "))
    assert ("begin_suppress_tokens=[10]: no run with engine=fast does that" in said) == (engine == "fast")
    try:
        load(subject.settings.model)
        refused = False
    except UserError:
        refused = True
    assert refused == (engine == "fast")


@pytest.mark.parametrize("changes", [{"return_dict_in_generate": True, "output_scores": True}, {"num_beams": 2}])
def test_what_a_run_sets_aside_breaks_no_answer(copy, changes):
    damage.edit(copy / GENERATION, **changes)
    results = {result.check.title: result for result in run_checks(EVERY, case(copy))}
    assert exit_code(list(results.values())) == 0 and results["Answers"].status is Status.OK


@pytest.mark.parametrize("family, status", [("mantis", Status.OK), ("idefics2", Status.WARNING)])
def test_a_missing_generation_config_is_fine_where_the_family_knows_the_end(family, status, tmp_path):
    copied = Path(shutil.copytree(CHECKPOINTS / family, tmp_path / family))
    (copied / GENERATION).unlink()
    *_, result = run_checks([checkpoint_files, configuration, tokenizer, generation], case(copied, family))
    assert result.status is status and "no generation_config.json" in result.findings[0].found


def test_a_saved_attention_or_cache_setting_does_not_matter(copy):
    """The loader and the run set both."""
    damage.edit(copy / CONFIG, **EAGER)
    damage.edit(copy / CONFIG, text_config=json.loads((copy / CONFIG).read_text())["text_config"] | EAGER)
    damage.edit(copy / GENERATION, use_cache=False)
    results = {result.check.title: result for result in run_checks(EVERY, case(copy))}
    assert exit_code(list(results.values())) == 0 and results["Answers"].status is Status.OK


def test_what_generate_refuses_is_a_finding(copy, monkeypatch):
    def refuse(*arguments):
        raise ValueError("no such thing\nas this")

    monkeypatch.setattr(answers_module, "_generate", refuse)
    result = run_checks(EVERY, case(copy))[-1]
    bad = [finding for finding in result.findings if finding.status is Status.FAILED]
    assert len(bad) == 2 and all("no such thing as this" in one.found and not one.trace for one in bad)


@pytest.mark.parametrize("tag, status", [(None, Status.OK), ("sd", Status.WARNING)])
def test_one_token_over_and_over_counts_for_benchmark_samples_only(tag, status, copy, monkeypatch):
    request = Request("What is it?", {}, lambda: [drawn(96, 96)], tag)
    monkeypatch.setattr(answers_module, "_samples", lambda case: [("a sample", request)])
    monkeypatch.setattr(answers_module, "NEW_TOKENS", 1)  # so that every answer repeats one token
    result = run_checks(EVERY, case(copy))[-1]
    assert result.status is status, result
    assert any("repeats one token" in finding.found for finding in result.findings) is (tag is not None)


def test_weights_are_never_loaded_when_an_earlier_check_failed(copy):
    """Random layers, a wrong vocabulary or too little memory cost seconds, not a GPU's afternoon."""
    damage.more_layers(copy)
    results = run_checks(EVERY, case(copy))
    assert results[-1].check is answers and results[-1].status is Status.SKIPPED


@pytest.mark.parametrize("folder", sorted(CHECKPOINTS.iterdir()), ids=lambda folder: folder.name)
def test_the_toy_checkpoints_are_whole(folder):
    screen = io.StringIO()
    assert preflight(case(folder, folder.name), Console(file=screen, width=120), SOME) == 0, screen.getvalue()
    said = screen.getvalue()
    assert "warning" not in said
    assert "failed" not in said and "skipped" not in said and "A run would work" in said
    assert said.count("off is off bit for bit") == 2


def test_a_checkpoint_in_shards_is_whole_too(copy):
    damage.shard(copy)
    subject = case(copy)
    (result,) = run_checks([checkpoint_files], subject)
    assert result.status is Status.OK and "in 2 files" in result.findings[0].found
    assert subject.checkpoint.tensors == read_header(CHECKPOINTS / "llava_onevision" / "model.safetensors")


def test_old_weights_beside_the_new_ones_are_pointed_out(copy):
    shutil.copy(copy / "model.safetensors", copy / "model-old.safetensors")
    (result,) = run_checks([checkpoint_files], case(copy))
    assert result.status is Status.WARNING and "not read: model-old.safetensors" in result.findings[0].found


def test_a_folder_that_may_not_be_read(copy, monkeypatch):
    """Permissions do not stop root, who may run these tests."""

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    subject = case(copy)
    monkeypatch.setattr(Path, "iterdir", refuse)
    (result,) = run_checks([checkpoint_files], subject)
    assert exit_code([result]) == 1
    assert "cannot be read: Permission denied" in result.findings[0].found and "ls -ld" in result.findings[0].remedy


@pytest.mark.parametrize(
    "place, found",
    [("no/such/folder/here", "no folder no/such/folder/here"), ("{copy}/config.json", "config.json is a file")],
)
def test_a_checkpoint_that_is_no_folder(place, found, copy):
    (result,) = run_checks([checkpoint_files], case(place.format(copy=copy)))
    assert result.status is Status.FAILED and found in result.findings[0].found
    assert "model.checkpoint=" in result.findings[0].remedy
