"""LLaVA-1.5: CLIP at 336 pixels, a two-layer projector, a Vicuna decoder (arXiv 2310.03744)."""

from torch import nn

from plphp_core.families.base import IMAGE_MARK, place_marks
from plphp_core.families.llava import VICUNA, VICUNA_SYSTEM, Llava, turns_with_marks
from plphp_core.pruning.validation import require


class Llava15(Llava):
    """Every image is 576 tokens, CLIP's class token is dropped.

    Attributes:
        pad: whether `load` makes the processor pad images to a square with the mean colour, as the authors did in
            training and evaluation and as lmms-eval's wrapper `llava` does. False: the released processor's crop of
            the central square, as the wrapper `llava_hf`.
    """

    name = "llava_1_5"
    title = "LLaVA-1.5"
    model_classes = ("LlavaForConditionalGeneration",)
    default_checkpoint = "llava-hf/llava-1.5-7b-hf"
    upstream = "llava"
    special_tokens = (IMAGE_MARK, "</s>")
    uses_chat_template = True
    options = ("pad",)
    pad = True

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The saved one, whose images are padded or cropped as `pad` says.

        Raises:
            ValueError: the decoder is not Vicuna's.
        """
        from transformers import LlavaImageProcessor

        kind = model.config.text_config.model_type
        require(
            kind == "llama",
            f"{checkpoint} has a decoder of type {kind!r}, but family {self.name!r} talks to Vicuna, a 'llama'; other "
            "LLaVA models need prompts of their own",
        )
        processor = super().load_processor(checkpoint, revision, model)
        values = processor.image_processor.to_dict() | {"do_pad": self.pad}
        values.pop("image_processor_type", None)
        processor.image_processor = LlavaImageProcessor(**values)
        model.config.image_aspect_ratio = "pad" if self.pad else "crop"
        return processor

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: the authors' conversation `vicuna_v1`, the text as it is, Multi-View's JSON too.

        plain: as the checkpoint's own template, without a system prompt; JSON becomes turns.
        """
        if self.as_upstream:
            return VICUNA_SYSTEM + VICUNA.write([place_marks(context, num_images)])
        return VICUNA.write(turns_with_marks(context, num_images, f"{IMAGE_MARK}\n" * num_images))
