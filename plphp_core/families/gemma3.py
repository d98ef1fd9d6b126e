"""Gemma 3: SigLIP at 896 pixels, pooled to 256 tokens; a decoder in which most layers see a sliding window."""

import re

from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, count_marks, cut_at, json_turns, refuse_tokens, through_jpeg
from plphp_core.pruning.hf import encoded_images, tower_layers
from plphp_core.pruning.tower import TokenPatches, Tower, square_blocks
from plphp_core.vision.token_geometry import grid

IMAGE, SOFT = "<start_of_image>", "<image_soft_token>"
SYSTEM_PROMPT = "You are a helpful assistant."


class Gemma3(Family):
    """Every image is 256 tokens between two text tokens, and they see each other in both directions.

    Five of six layers see 1024 tokens back, by rotary tables of their own. As everywhere, prompt and answer have to
    stay within the window: three images and a question do.
    """

    name = "gemma3"
    title = "Gemma 3"
    model_classes = ("Gemma3ForConditionalGeneration",)
    default_checkpoint = "google/gemma-3-4b-it"
    max_new_tokens = 128
    special_tokens = ("<bos>", "<start_of_turn>", "<end_of_turn>", IMAGE, "<end_of_image>", SOFT)
    image_token = SOFT
    uses_chat_template = True
    located = True
    jpeg_quality = 85

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        pixels = inputs.get("pixel_values")
        return [] if pixels is None else [model.config.mm_tokens_per_image] * len(pixels)

    def mutual(self, inputs: dict) -> bool:
        """By the processor's `token_type_ids`: without them the model reads an image as it reads text."""
        return inputs.get("token_type_ids") is not None

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """One raster of the whole image, squeezed."""
        side = round(model.config.mm_tokens_per_image**0.5)
        return [grid(side, side) for _ in self.image_sizes(model, inputs)]

    def tower(self, model: nn.Module) -> Tower:
        depth = model.config.vision_config.num_hidden_layers
        return Tower(tower_layers(model.model.vision_tower, depth), depth - 1, model.model.multi_modal_projector)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """The projector's pooling makes a token of a square of patches, 4 × 4."""
        projector = model.model.multi_modal_projector
        places = square_blocks(projector.tokens_per_side, projector.kernel_size)
        return [TokenPatches(places, places.numel(), places.numel()) for _ in self.image_sizes(model, inputs)]

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The saved one, without pan-and-scan, as upstream: its crops would be images of their own."""
        processor = super().load_processor(checkpoint, revision, model)
        processor.image_processor.do_pan_and_scan = False
        return processor

    # --- prompts ---------------------------------------------------------------------------------------------------

    def images(self, images: list) -> list:
        return [through_jpeg(image, self.jpeg_quality) for image in images] if self.as_upstream else images

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: a system prompt, all images, the text without its marks, Multi-View's JSON too. plain: in place,
        turns. The template strips every text, and so what stands between two images.

        Raises:
            ValueError: the text marks some images but not as many as there are (upstream would ignore the marks), or
                contains a token that stands for pixels.
        """
        marks = count_marks([context], num_images)
        refuse_tokens(context, (IMAGE, SOFT))
        turns = (None if self.as_upstream else json_turns(context)) or [context]
        if self.as_upstream:
            turns = [re.sub(r"<image \d+>", "", turns[0].replace(IMAGE_MARK, ""))]
        if self.as_upstream or not marks:
            turns = [IMAGE_MARK * num_images + turns[0], *turns[1:]]
        text = "<bos>"
        for i, turn in enumerate(turns):
            said = IMAGE.join(part.strip() for part in turn.split(IMAGE_MARK))
            system = f"{SYSTEM_PROMPT}\n\n" if self.as_upstream and i == 0 else ""
            text += f"<start_of_turn>{('user', 'model')[i % 2]}\n{system}{said}<end_of_turn>\n"
        return text + "<start_of_turn>model\n"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """The prompts begin with the tokenizer's begin token, which it is told not to add once more."""
        nested = images if any(images) else None
        inputs = {"text": prompts, "images": nested, "padding": True, "padding_side": "left", "return_tensors": "pt"}
        return processor(**inputs, add_special_tokens=False)

    # --- answers ---------------------------------------------------------------------------------------------------

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: cut at the first of `until`, unless that is a blank line; not stripped. plain: stripped, uncut."""
        tokenizer = processor.tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not self.as_upstream:
            return text.strip()
        return cut_at(text, gen_kwargs.get("until", [tokenizer.eos_token]), ignored=("\n\n",))
