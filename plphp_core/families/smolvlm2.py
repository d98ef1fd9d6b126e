"""SmolVLM2, and SmolVLM on Idefics3's class: as Idefics3, small, with another opening."""

from plphp_core.families.idefics3 import Idefics3


class SmolVLM2(Idefics3):
    """The tokenizer puts nothing in front of a text, so that the template's `<|im_start|>` belongs to every prompt."""

    name = "smolvlm2"
    title = "SmolVLM2"
    model_classes = ("SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration")
    default_checkpoint = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
    special_tokens = ("<|im_start|>", *Idefics3.special_tokens)
    packages = ("num2words",)  # to spell the number of a video's frames
    opening = plain_opening = "<|im_start|>"
