"""Every damage to a checkpoint is found by the check concerned, in words that name it; good checkpoints pass."""

import pytest

from plphp_core.preflight.checkpoint import checkpoint_files, configuration, weights
from plphp_core.preflight.checks import CheckStatus
from plphp_core.preflight.prompts import image_tokens, tokenizer
from plphp_core.preflight.room import memory
from plphp_core.preflight.smoke import answers
from tests.preflight import damage as broken
from tests.preflight.conftest import CHECKPOINTS

CONFIG, PROCESSOR, GENERATION = "config.json", "processor_config.json", "generation_config.json"
TEMPLATE = "chat_template.jinja"
NINE = {"text_config__num_hidden_layers": 9, "text_config__layer_types": ["full_attention"] * 9}
SEVEN = {"text_config__num_hidden_layers": 7, "text_config__layer_types": ["full_attention"] * 7}
WINDOW = {"text_config__sliding_window": 100}
LLAVA, QWEN = "llava_onevision", "qwen2_vl"
SMALL_IMAGES = {"image_processor__size": {"height": 56, "width": 56}}


def one_lost(state):
    return {name: tensor for name, tensor in state.items() if "layers.3.mlp.up_proj" not in name}


@pytest.mark.parametrize(
    "family, damage, check, words",
    [
        (LLAVA, broken.without(CONFIG), checkpoint_files, "no config.json"),
        (LLAVA, broken.without(broken.WEIGHTS), checkpoint_files, "neither model.safetensors nor"),
        (LLAVA, broken.torn(broken.WEIGHTS), checkpoint_files, "model.safetensors is damaged"),
        (LLAVA, broken.missing_shard, checkpoint_files, f"missing: {broken.SECOND}"),
        (LLAVA, broken.swapped_shards, checkpoint_files, "disagree"),
        (LLAVA, broken.only_pickled, checkpoint_files, "only pickled weights"),
        (LLAVA, broken.torn(CONFIG), configuration, "config.json"),
        (
            LLAVA,
            broken.edited(CONFIG, architectures=["LlavaNextForConditionalGeneration"]),
            configuration,
            "LlavaNextFor",
        ),
        (LLAVA, broken.edited(CONFIG, model_type="llava_next", architectures=None), configuration, "'llava_next'"),
        (LLAVA, broken.edited(CONFIG, **NINE), weights, "layers.10."),
        (LLAVA, broken.edited(CONFIG, **SEVEN), weights, "layers that config.json does not have"),
        (LLAVA, broken.tensors(one_lost), weights, "layers.3.mlp.up_proj"),
        (LLAVA, broken.edited(CONFIG, text_config__vocab_size=300), weights, "(300, 128)"),
        (LLAVA, broken.edited(CONFIG, text_config__num_key_value_heads=4), weights, "k_proj"),
        (LLAVA, broken.without("tokenizer.json"), tokenizer, "no tokenizer can be read"),
        (LLAVA, broken.renamed_token("<|im_start|>"), tokenizer, "<|im_start|> is not one token"),
        (LLAVA, broken.edited(CONFIG, image_token_index=7), tokenizer, "image_token_id in config.json is 7"),
        (LLAVA, broken.edited(GENERATION, guidance_scale=1.5), tokenizer, "guidance_scale=1.5"),
        (LLAVA, broken.torn(GENERATION), tokenizer, "cannot be loaded"),
        (LLAVA, broken.without(PROCESSOR), image_tokens, "no processor can be read"),
        (LLAVA, broken.edited(PROCESSOR, num_image_tokens=49), image_tokens, "features"),
        (LLAVA, broken.tensors(broken.with_nan), answers, "layers.4.mlp.gate_proj"),
        (LLAVA, broken.tensors(broken.zeros), answers, "all the same"),
        ("mantis", broken.renamed_token("<|eot_id|>"), tokenizer, "<|eot_id|> is not one token"),
        ("mantis", broken.edited(PROCESSOR, **SMALL_IMAGES), image_tokens, "features"),
        ("idefics2", broken.edited(PROCESSOR, image_seq_len=64), image_tokens, "features"),
        ("idefics2", broken.edited(CONFIG, **WINDOW), memory, "sliding_window 100"),
        ("idefics2", broken.replaced("<end_of_utterance>", "</s>", TEMPLATE), image_tokens, "</s>"),
        ("idefics2", broken.replaced("{%", "{% %", TEMPLATE), image_tokens, "does not render"),
        (QWEN, broken.without(TEMPLATE), image_tokens, "no chat template"),
        (QWEN, broken.edited(PROCESSOR, image_processor__merge_size=4), image_tokens, "features"),
        (QWEN, broken.edited(CONFIG, image_token_id=7), tokenizer, "image_token_id in config.json is 7"),
    ],
)
def test_damage_is_found_by_the_check_concerned(family, damage, check, words, copied, examine):
    folder, run = copied(family)
    damage(folder)
    result = examine(check, run)[0]
    assert result.status is CheckStatus.FAILED and words in result.sentence, result
    assert "broke at" not in result.sentence


def test_a_checkpoint_in_shards_passes(copied, examine):
    folder, run = copied()
    broken.shard(folder)
    (result,) = examine(checkpoint_files, run)
    assert result.status is CheckStatus.PASSED and len(run.checkpoint.shapes) == 204


@pytest.mark.parametrize("folder", sorted(CHECKPOINTS.iterdir()), ids=lambda folder: folder.name)
def test_the_toy_checkpoints_pass(folder, planned, examine):
    results = examine(answers, planned(f"model={folder.name}", f"model.checkpoint={folder}"))
    assert [result.status for result in results] == ["passed"] * 2, results


@pytest.mark.parametrize(
    "family, changes, said",
    [
        (QWEN, {"repetition_penalty": 1.05}, "obey repetition_penalty=1.05"),
        (LLAVA, {"num_beams": 2, "use_cache": False, "output_scores": True}, "tokens"),
    ],
)
def test_what_generation_config_changes_is_said_and_breaks_no_run(family, changes, said, copied, examine):
    folder, run = copied(family)
    broken.edited(GENERATION, **changes)(folder)
    (result,) = examine(tokenizer, run)
    assert result.status is CheckStatus.PASSED and said in result.sentence


@pytest.mark.parametrize("engine, status", [("generate", "passed"), ("fast", "failed")])
def test_what_is_obeyed_depends_on_the_engine(engine, status, copied, examine):
    folder, run = copied(LLAVA, f"engine={engine}")
    broken.edited(GENERATION, begin_suppress_tokens=[10])(folder)
    assert examine(tokenizer, run)[0].status == status


@pytest.mark.parametrize("place", ["no/such/folder/here", "config.json"])
def test_a_checkpoint_that_is_no_folder(place, planned, examine, copied):
    folder, _ = copied()
    (result,) = examine(checkpoint_files, planned(f"model.checkpoint={folder / place}"))
    assert result.status is CheckStatus.FAILED and place in result.sentence and "model.checkpoint=" in result.sentence
