"""Mantis: SigLIP, a two-layer projector, a Llama 3 decoder; runs on transformers' LLaVA.

Upstream is the package `mantis` (github.com/TIGER-AI-Lab/Mantis: models/conversation.py and
models/mllava/processing_llava.py), which does not run on transformers 5.
"""

from torch import nn

from plphp_core.families.base import IMAGE_MARK, count_marks, json_turns
from plphp_core.families.llava import LLAMA3, TURN_END, Llava, extra_tokens, give_pad_token, llama3_ends, llama3_system
from plphp_core.pruning.validation import require

# Not a joke of this file: the conversation that the model was trained with begins so.
SYSTEM_PROMPT = "You are a pirate chatbot who always responds in pirate speak!"


class Mantis(Llava):
    """Every image has equally many tokens, within a text that numbers it: `(image 1: <Image>…</Image>)`.

    `<Image>` and `</Image>` are ordinary text to the tokenizer.
    """

    name = "mantis"
    title = "Mantis"
    model_classes = ("LlavaForConditionalGeneration",)
    default_checkpoint = "TIGER-Lab/Mantis-8B-siglip-llama3"
    special_tokens = ("<|start_header_id|>", "<|end_header_id|>", TURN_END, IMAGE_MARK)

    # --- loading ---------------------------------------------------------------------------------------------------

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """Made from its parts: the released checkpoint names a processor that only the package `mantis` has."""
        from transformers import AutoImageProcessor, LlavaProcessor

        tokenizer, config = self._tokenizer(checkpoint, revision), model.config
        image_id = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        require(
            image_id == config.image_token_id,
            f"{IMAGE_MARK} is token {image_id}, but the model's configuration says {config.image_token_id}",
        )
        give_pad_token(tokenizer, config)
        return LlavaProcessor(
            image_processor=AutoImageProcessor.from_pretrained(checkpoint, revision=revision, trust_remote_code=False),
            tokenizer=tokenizer,
            patch_size=config.vision_config.patch_size,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            num_additional_image_tokens=extra_tokens(config.vision_config),
        )

    # --- prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: the text as it is, Multi-View's JSON too; images without marks go in front of everything.

        plain: JSON becomes turns; images without marks go in front of the first question, as in the training data.
        """
        missing = _missing(context, num_images)
        if self.as_upstream:
            return _number(_place_as_upstream(_chat([context]), missing))
        first, *rest = json_turns(context) or [context]
        return _number(_chat([missing + first, *rest]))

    # --- answers ---------------------------------------------------------------------------------------------------

    def end_tokens(self, processor) -> list[int]:
        return llama3_ends(processor.tokenizer)


def _chat(turns: list[str]) -> str:
    """Llama 3's layout. `<|begin_of_text|>` is the tokenizer's to add, so it is not in the text."""
    return llama3_system(SYSTEM_PROMPT) + LLAMA3.write(turns)


def _missing(context: str, num_images: int) -> str:
    """The marks to add: all or none.

    Raises:
        ValueError: some marks, but not as many as images (upstream would add or drop marks silently).
    """
    return IMAGE_MARK * (num_images - count_marks([context], num_images))


def _place_as_upstream(chat: str, missing: str) -> str:
    """In front of the whole chat, or behind the name of a role of other templates that the text happens to hold."""
    for role in ("USER:", "Human:", "HUMAN:"):
        if role in chat:
            return chat.replace(role, role + missing, 1)
    return missing + chat


def _number(chat: str) -> str:
    """Every `<image>` becomes `(image i: <Image><image></Image>)`, i counting from 1."""
    first, *rest = chat.split(IMAGE_MARK)
    return first + "".join(f"(image {i}: <Image>{IMAGE_MARK}</Image>){part}" for i, part in enumerate(rest, 1))
