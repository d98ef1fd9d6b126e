"""InternVL3 and InternVL3.5: InternViT tiles of 448 pixels, a Qwen2 or Qwen3 decoder; the checkpoints ending in -hf."""

import re

import torch
from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, count_marks, json_turns, refuse_tokens, token_runs
from plphp_core.families.llava import vision_tower
from plphp_core.pruning.hf import encoded_images
from plphp_core.pruning.tower import TokenPatches, Tower, several_crops, square_blocks
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import grid, tiled

IMAGE = "<IMG_CONTEXT>"


class InternVL3(Family):
    """One image: 256 tokens of each tile, and of a thumbnail where there are several, between two text tokens.

    The processor hands over the tiles of a batch one after another and the encoder is a tensor of tiles: what tells
    images apart is the text token on either side. A video is a number of images of one tile.

    Attributes:
        max_tiles: most tiles of an image, thumbnail not counted; upstream's.
    """

    name = "internvl3"
    title = "InternVL3"
    model_classes = ("InternVLForConditionalGeneration",)
    default_checkpoint = "OpenGVLab/InternVL3-8B-hf"
    upstream = "internvl_hf"
    special_tokens = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", IMAGE)
    image_token = IMAGE
    uses_chat_template = True
    located = True
    options = ("max_tiles",)
    max_tiles = 12

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        """As in `Family`.

        Raises:
            ValueError: the prompt has not as many image tokens as the model makes features.
        """
        pixels = inputs.get("pixel_values")
        if (encoded := encoded_images(inputs)) is not None:
            made = sum(len(features) for features in encoded)
        elif pixels is not None:
            made = len(pixels) * _side(model.config) ** 2
        else:
            return []
        runs = token_runs(inputs["input_ids"], self.image_token_id(model))
        sizes = [length for row in runs for _, length in row]
        require(
            sum(sizes) == made,
            f"the prompt has {sum(sizes)} image tokens, but the model makes {made} features: the processor's "
            f"image_seq_length must be {_side(model.config) ** 2}",
        )
        return sizes

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """Tiles row by row, each a raster, then the thumbnail: a raster of the whole image, squeezed.

        Raises:
            ValueError: images are cut into several tiles, and `images`, whose shapes tell how, is not given.
        """
        side, flat = _side(model.config), None if images is None else [image for sample in images for image in sample]
        crops = [size // side**2 for size in self.image_sizes(model, inputs)]
        require(
            flat is not None or not any(number > 1 for number in crops),
            f"the inputs of {type(model).__name__} do not tell into which rows and columns images were cut: call "
            "token_boxes(model, inputs, images) with the images that encode was given",
        )
        sizes = [(1, 1)] * len(crops) if flat is None else [image.size for image in flat]
        return [_token_boxes(number, size, side) for number, size in zip(crops, sizes, strict=True)]

    def tower(self, model: nn.Module) -> Tower:
        return vision_tower(model, pointwise=False)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """The pixel shuffle makes a token of 2 × 2 patches; a class token stands in front of each tile's."""
        side = _side(model.config)
        tile = 1 + square_blocks(side, round(1 / model.config.downsample_ratio))
        length = 1 + tile.numel()
        sizes = [size // side**2 for size in self.image_sizes(model, inputs)]
        return [TokenPatches(several_crops([tile] * tiles, length), tiles * length, length) for tiles in sizes]

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The processor saved with the checkpoint, with the family's limit on tiles."""
        require(self.max_tiles > 0, f"max_tiles = {self.max_tiles}, but an image has at least 1")
        processor = super().load_processor(checkpoint, revision, model)
        processor.image_processor.min_patches, processor.image_processor.max_patches = 1, self.max_tiles
        return processor

    # --- prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, context: str, num_images: int) -> str:
        """The chat template. lmms_eval: all images first; the text as it is, marks and Multi-View's JSON too, since to
        the tokenizer `<image>` is text. plain: images in place, turns.

        Raises:
            ValueError: the text marks some images but not as many as there are, or contains a token that stands for
                pixels.
        """
        marks = count_marks([context], num_images)
        refuse_tokens(context, (IMAGE, "<video>"))
        turns = (None if self.as_upstream else json_turns(context)) or [context]
        if not self.as_upstream:  # the template puts a line break behind every image
            turns = [re.sub(rf"{IMAGE_MARK}\n?", f"{IMAGE}\n", turn) for turn in turns]
        if self.as_upstream or not marks:
            turns = [f"{IMAGE}\n" * num_images + turns[0], *turns[1:]]
        text = ""
        for i, turn in enumerate(turns):
            text += f"<|im_start|>{('user', 'assistant')[i % 2]}\n{turn}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        flat = [image for sample in images for image in sample]
        return processor(text=prompts, images=flat or None, padding=True, padding_side="left", return_tensors="pt")

    # --- answers ---------------------------------------------------------------------------------------------------

    def end_tokens(self, processor) -> list[int]:
        """Upstream names the tokenizer's end token."""
        return [processor.tokenizer.eos_token_id]

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: neither cut nor stripped. plain: stripped."""
        text = processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text if self.as_upstream else text.strip()


def _side(config) -> int:
    """Tokens along a side of a tile, after the pixel shuffle."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)


def _token_boxes(crops: int, size: tuple[int, int], side: int) -> Tensor:
    """Boxes of the tokens of one image of `size` (width, height): one tile, or several and the thumbnail."""
    if crops == 1:
        return grid(side, side)
    return torch.cat([tiled(*_cut(crops - 1, *size), side), grid(side, side)])


def _cut(tiles: int, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of an image's tiles: of the grids of so many, the one nearest to its shape, as the processor
    chooses among those of all numbers.
    """
    grids = [(rows, tiles // rows) for rows in range(1, tiles + 1) if tiles % rows == 0]
    return min(grids, key=lambda cut: abs(width / height - cut[1] / cut[0]))
