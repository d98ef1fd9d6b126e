"""Families without a toy checkpoint: the checks of checkpoint and prompts read a saved random model as they should."""

import pytest

from plphp_core.evaluation.loading import load
from plphp_core.preflight.checks import CheckStatus
from plphp_core.preflight.prompts import image_tokens, tokenizer
from plphp_core.records.errors import UserError
from tests.families.tiny_models import FAMILIES
from tests.preflight import damage

# Tokens of one drawn image of 224 × 160 pixels and of two.
COUNTS = {"internvl3": (13 * 4, 26 * 4), "idefics3": (13 * 4, 26 * 4), "smolvlm2": (13 * 4, 26 * 4), "gemma3": (16, 32)}


@pytest.fixture
def saved(tmp_path, planned):
    """Saves a family's random model and its processor, and plans a run on them: `(folder, run)`."""

    def save(family, **options):
        kind = FAMILIES[family]
        kind.model().save_pretrained(tmp_path)
        kind.processor(**options).save_pretrained(tmp_path)
        return tmp_path, planned(f"model={family}", f"model.checkpoint={tmp_path}")

    return save


@pytest.mark.parametrize("family", COUNTS)
def test_what_a_family_is_made_of_passes(family, saved, examine):
    _, run = saved(family)
    one, two = COUNTS[family]
    (found,) = examine(tokenizer, run)
    assert found.status is CheckStatus.PASSED and f"{run.family.image_token} is " in found.sentence, found.sentence
    (found,) = examine(image_tokens, run)
    assert found.status is CheckStatus.PASSED, found.sentence
    assert found.sentence.startswith(f"{one} and {two} for one drawn image and two")


@pytest.mark.parametrize(
    "family, options, broken, words",
    [
        ("internvl3", {"tokens": 5}, None, "image_seq_length must be 4"),
        ("internvl3", {}, damage.replaced("assistant", "model", "chat_template.jinja"), "the chat template renders"),
        ("idefics3", {"tokens": 5}, None, "image_seq_len, 5 here, is not the model's"),
        ("smolvlm2", {}, damage.replaced("Assistant", "Model", "chat_template.jinja"), "the chat template renders"),
    ],
)
def test_a_processor_that_does_not_fit_fails(family, options, broken, words, saved, examine):
    folder, run = saved(family, **options)
    if broken:
        broken(folder)
    (found,) = examine(image_tokens, run)
    assert found.status is CheckStatus.FAILED and words in found.sentence, found.sentence


def test_a_missing_package_is_named_with_the_remedy_before_weights_are_read(saved, examine, monkeypatch):
    folder, run = saved("smolvlm2")
    monkeypatch.setattr(type(run.family), "packages", ("num2words", "no_such_package"))
    said = "the processor of SmolVLM2 needs what is not installed here: no_such_package; `pip install no_such_package`"
    (found,) = examine(image_tokens, run)
    assert (found.status, found.sentence) == (CheckStatus.FAILED, said)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"cannot load .*: {said}"):
        load(run.settings.model)
