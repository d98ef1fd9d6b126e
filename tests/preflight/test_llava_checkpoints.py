"""Checkpoints of LLaVA's families pass the preflight as far as no data are needed, whatever their options."""

import pytest

from plphp_core.preflight.checks import CheckStatus
from plphp_core.preflight.prompts import image_tokens
from plphp_core.preflight.smoke import answers
from tests.families.llava_factory import saved_llava_1_5
from tests.preflight import damage as broken


@pytest.mark.parametrize("pad", ["true", "false"])
def test_llava_1_5_padded_and_cropped(pad, tmp_path, planned, examine):
    saved_llava_1_5(tmp_path)
    run = planned("model=llava_1_5", f"model.checkpoint={tmp_path}", f"model.options.pad={pad}")
    for check in (image_tokens, answers):
        results = examine(check, run)
        assert results and all(result.status is CheckStatus.PASSED for result in results), results
    assert "16 and 32 for one drawn image and two" in examine(image_tokens, run)[0].sentence


def test_a_template_that_says_something_else_is_found(tmp_path, planned, examine):
    saved_llava_1_5(tmp_path)
    broken.replaced("ASSISTANT", "Assistant", "chat_template.jinja")(tmp_path)
    (result,) = examine(image_tokens, planned("model=llava_1_5", f"model.checkpoint={tmp_path}"))
    assert result.status is CheckStatus.FAILED and "but LLaVA-1.5's prompt is 'USER: <image>" in result.sentence
