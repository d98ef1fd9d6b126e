"""Checkpoints of LLaVA's families pass the preflight as far as no data are needed, whatever their options."""

import pytest

from plphp_core.preflight.checks import CheckStatus
from plphp_core.preflight.prompts import image_tokens, tokenizer
from plphp_core.preflight.smoke import answers
from tests.families.llava_factory import saved_llava_1_5
from tests.families.llava_next_factory import saved_llava_next
from tests.preflight import damage as broken


@pytest.mark.parametrize("pad", ["true", "false"])
def test_llava_1_5_padded_and_cropped(pad, tmp_path, planned, examine):
    saved_llava_1_5(tmp_path)
    run = planned("model=llava_1_5", f"model.checkpoint={tmp_path}", f"model.options.pad={pad}")
    for check in (image_tokens, answers):
        results = examine(check, run)
        assert results and all(result.status is CheckStatus.PASSED for result in results), results
    assert "16 and 32 for one drawn image and two" in examine(image_tokens, run)[0].sentence


@pytest.mark.parametrize("model", ["llava_next", "llava_next_mistral", "llava_next_llama3"])
def test_llava_next_with_the_prompts_of_its_decoder(model, tmp_path, planned, examine):
    saved_llava_next(tmp_path, model.removeprefix("llava_next_") if "_next_" in model else "vicuna")
    run = planned(f"model={model}", f"model.checkpoint={tmp_path}")
    for check in (tokenizer, image_tokens, answers):
        results = examine(check, run)
        assert results and all(result.status is CheckStatus.PASSED for result in results), results


def test_prompts_of_another_decoder_are_found(tmp_path, planned, examine):
    saved_llava_next(tmp_path)
    (result,) = examine(tokenizer, planned("model=llava_next_llama3", f"model.checkpoint={tmp_path}"))
    assert result.status is CheckStatus.FAILED and "<|start_header_id|> is not one token" in result.sentence
    (result,) = examine(image_tokens, planned("model=llava_next_mistral", f"model.checkpoint={tmp_path}"))
    assert result.status is CheckStatus.FAILED and "template=mistral" in result.sentence


def test_a_template_that_says_something_else_is_found(tmp_path, planned, examine):
    saved_llava_1_5(tmp_path)
    broken.replaced("ASSISTANT", "Assistant", "chat_template.jinja")(tmp_path)
    (result,) = examine(image_tokens, planned("model=llava_1_5", f"model.checkpoint={tmp_path}"))
    assert result.status is CheckStatus.FAILED and "but LLaVA-1.5's prompt is 'USER: <image>" in result.sentence
