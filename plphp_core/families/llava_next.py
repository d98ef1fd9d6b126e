"""LLaVA-NeXT (LLaVA-1.6): CLIP tiles, a Vicuna, Mistral or Llama 3 decoder."""

from typing import NamedTuple

from torch import Tensor, nn

from plphp_core.families.anyres import anyres_boxes, anyres_patches, anyres_size
from plphp_core.families.base import IMAGE_MARK, place_marks
from plphp_core.families.llava import (
    LLAMA3,
    TURN_END,
    VICUNA,
    VICUNA_SYSTEM,
    ChatLayout,
    Llava,
    extra_tokens,
    llama3_ends,
    llama3_system,
    turns_with_marks,
)
from plphp_core.pruning.hf import encoded_images
from plphp_core.pruning.tower import TokenPatches
from plphp_core.pruning.validation import require


class ChatTemplate(NamedTuple):
    """The prompts of the checkpoints with one decoder.

    Attributes:
        layout: of questions and answers.
        upstream: what precedes them in the conversation that lmms-eval's wrapper `llava` is to be given for it.
        plain: what precedes them by the checkpoint's own documentation.
        marks: images that the text does not mark, in front of a plain text: each one, and what follows the last.
        rendered: whether the checkpoint's own chat template makes the plain prompt.
        decoder: model type of the text configuration.
        tokens: special tokens of the layout.
    """

    layout: ChatLayout
    upstream: str
    plain: str
    marks: tuple[str, str]
    rendered: bool
    decoder: str
    tokens: tuple[str, ...]


ON_LINES = (f"{IMAGE_MARK}\n", "")
TEMPLATES = {
    "vicuna": ChatTemplate(  # the released template lacks the system prompt that the model card asks for
        layout=VICUNA,
        upstream=VICUNA_SYSTEM,
        plain=VICUNA_SYSTEM.replace("user", "human"),
        marks=ON_LINES,
        rendered=False,
        decoder="llama",
        tokens=("</s>",),
    ),
    "mistral": ChatTemplate(
        layout=ChatLayout(("[INST] ", " [/INST]"), (" ", "</s> ")),
        upstream="",
        plain="",
        marks=ON_LINES,
        rendered=True,
        decoder="mistral",
        tokens=("</s>",),
    ),
    "llama3": ChatTemplate(
        layout=LLAMA3,
        upstream=llama3_system(
            "You are a helpful language and vision assistant. You are able to understand the visual content that the "
            "user provides, and assist the user with a variety of tasks using natural language."
        ),
        plain="",
        marks=(IMAGE_MARK, "\n"),
        rendered=True,
        decoder="llama",
        tokens=("<|start_header_id|>", "<|end_header_id|>", TURN_END),
    ),
}


class LlavaNext(Llava):
    """Every image, also one of several, is a base tile and anyres tiles with a newline token per row, without a cap.

    Attributes:
        template: whose prompts a checkpoint was trained with, one of TEMPLATES: that of its decoder.
    """

    name = "llava_next"
    title = "LLaVA-NeXT"
    model_classes = ("LlavaNextForConditionalGeneration",)
    default_checkpoint = "llava-hf/llava-v1.6-vicuna-7b-hf"
    upstream = "llava"
    options = ("template",)
    template = "vicuna"

    def __init__(self, style: str = "lmms_eval", **options):
        super().__init__(style, **options)
        require(
            self.template in TEMPLATES,
            f"option template of family {self.name!r} is {self.template!r}; allowed: {', '.join(TEMPLATES)}, by the "
            "checkpoint's decoder",
        )
        self.chat = TEMPLATES[self.template]
        self.special_tokens = (IMAGE_MARK, *self.chat.tokens)
        self.uses_chat_template = self.chat.rendered

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        return [anyres_size(model.config, size) for size in _sizes(inputs)]

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        return [anyres_boxes(model.config, size) for size in _sizes(inputs)]

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        class_tokens = extra_tokens(model.config.vision_config)
        return [anyres_patches(model.config, size, class_tokens) for size in _sizes(inputs)]

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """As `Llava.load_processor`.

        Raises:
            ValueError: the decoder is not the template's.
        """
        kind = model.config.text_config.model_type
        require(
            kind == self.chat.decoder,
            f"{checkpoint} has a decoder of type {kind!r}, but the prompts of {self._asked_for()} are for a "
            f"{self.chat.decoder!r}",
        )
        return super().load_processor(checkpoint, revision, model)

    def _asked_for(self) -> str:
        return f"{super()._asked_for()} with template={self.template} (of {', '.join(TEMPLATES)})"

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: the text as it is, Multi-View's JSON too. plain: JSON becomes turns."""
        if self.as_upstream:
            question = place_marks(context, num_images)
            # Llama 3's own chat template, which the wrapper's conversation goes through, strips every turn.
            return self.chat.upstream + self.chat.layout.write([question.strip() if self._llama3 else question])
        each, behind = self.chat.marks
        in_front = each * num_images + behind * (num_images > 0)
        return self.chat.plain + self.chat.layout.write(turns_with_marks(context, num_images, in_front))

    def end_tokens(self, processor) -> list[int] | None:
        return llama3_ends(processor.tokenizer) if self._llama3 else None

    @property
    def _llama3(self) -> bool:
        return self.chat.layout is LLAMA3


def _sizes(inputs: dict) -> list[list[int]]:
    """Height and width of every image."""
    sizes = inputs.get("image_sizes")
    return [] if inputs.get("pixel_values") is None or sizes is None else sizes.tolist()
