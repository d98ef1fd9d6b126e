"""Idefics3: SigLIP tiles and the whole image, each shuffled into fewer tokens, a Llama decoder."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, count_marks, json_turns, refuse_tokens, token_runs
from plphp_core.pruning.hf import encoded_images, tower_layers
from plphp_core.pruning.tower import TokenPatches, Tower, several_crops, square_blocks
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import grid, tiled

FAKE = "<fake_token_around_image>"
TURN_ENDS = "<end_of_utterance>"


class Idefics3(Family):
    """One image: its tiles, row by row, then the whole, each so many tokens behind a text that names it.

    `<fake_token_around_image>` begins every tile and the whole, and ends the image: between two tiles of one image
    there is one such token, between two images there are two. The encoder's outputs are joined per sample, and how many
    tokens `<row_1_col_2>` makes is the tokenizer's affair, so this is what tells images apart.

    Attributes:
        image_splitting: whether `load` makes the model see tiles beside the whole image.
    """

    name = "idefics3"
    title = "Idefics3"
    model_classes: ClassVar[tuple[str, ...]] = ("Idefics3ForConditionalGeneration",)
    default_checkpoint = "HuggingFaceM4/Idefics3-8B-Llama3"
    upstream = "huggingface"
    special_tokens: tuple[str, ...] = (FAKE, IMAGE_MARK, TURN_ENDS)
    max_new_tokens = 4096
    uses_chat_template = True
    located = True
    options = ("image_splitting",)
    image_splitting = True
    # What the template begins with, and so upstream's prompts; the tokenizer puts the same token in front once more.
    opening: ClassVar[str] = "<|begin_of_text|>"
    plain_opening: ClassVar[str] = ""

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        """As in `Family`.

        Raises:
            ValueError: the prompt has not as many image tokens as the model makes features.
        """
        encoded, pixels = encoded_images(inputs), inputs.get("pixel_values")
        if encoded is None and pixels is None:
            return []
        crops = [lengths for lengths, _ in _crops(inputs["input_ids"], self.image_token_id(model))]
        if encoded is not None:
            made = sum(len(features) for features in encoded)
        else:  # of the tiles that the prompt has: empty ones, which fill samples up, are dropped
            made = _tokens(model.config, pixels) * sum(map(len, crops))
        written = sum(map(sum, crops))
        require(
            written == made,
            f"the prompt has {written} image tokens, but the model makes {made} features of its tiles: the processor's "
            f"image_seq_len, {crops[0][0] if crops else 0} here, is not the model's",
        )
        return [sum(lengths) for lengths in crops]

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """Tiles and the whole image, all squeezed, each a raster; the last pixels of a tile, fewer than a patch, belong
        to no token: 6 of 384.
        """
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        tower = pixels.shape[-1]
        patches = tower // (patch := model.config.vision_config.patch_size)
        side, read = patches // model.config.scale_factor, patches * patch / tower
        boxes = []
        for lengths, columns in _crops(inputs["input_ids"], self.image_token_id(model)):
            whole = grid(side, side, (0.0, 0.0, read, read))
            tiles = len(lengths) - 1
            boxes.append(torch.cat([tiled(tiles // columns, columns, side, read), whole]) if tiles else whole)
        return boxes

    def tower(self, model: nn.Module) -> Tower:
        depth = model.config.vision_config.num_hidden_layers
        return Tower(tower_layers(model.model.vision_model, depth), depth - 1, model.model.connector)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """The connector's pixel shuffle makes a token of a square of patches, in each tile and in the whole."""
        found = []
        for lengths, _ in _crops(inputs["input_ids"], self.image_token_id(model)):
            places = square_blocks(math.isqrt(lengths[0]), model.config.scale_factor)
            crop, tiles = places.numel(), len(lengths)
            found.append(TokenPatches(several_crops([places] * tiles, crop), tiles * crop, crop))
        return found

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        processor = super().load_processor(checkpoint, revision, model)
        processor.image_processor.do_image_splitting = self.image_splitting
        return processor

    # --- prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, context: str, num_images: int) -> str:
        """The chat template, with images in front unless the text marks them, since `<image>` is the tokenizer's own.

        lmms_eval: Multi-View's JSON as it is. plain: JSON becomes turns.
        """
        refuse_tokens(context, (FAKE,))
        turns = (None if self.as_upstream else json_turns(context)) or [context]
        marks = count_marks(turns, num_images)
        turns = [IMAGE_MARK * (num_images - marks) + turns[0], *turns[1:]]
        text = self.opening if self.as_upstream else self.plain_opening
        for i, turn in enumerate(turns):
            # The template puts a space behind the colon unless the first part of a message is an image.
            text += f"{('User', 'Assistant')[i % 2]}:{'' if turn.startswith(IMAGE_MARK) else ' '}{turn}{TURN_ENDS}\n"
        return text + "Assistant:"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """Pixels are `(samples, most tiles of a sample, 3, height, width)`, zero where a sample has fewer."""
        return processor(
            text=prompts,
            images=images if any(images) else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )

    # --- answers ---------------------------------------------------------------------------------------------------

    def end_tokens(self, processor) -> list[int]:
        """The tokenizer's, as upstream names it, and what the template ends a turn with, where that is another one."""
        tokenizer = processor.tokenizer
        return list(dict.fromkeys([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_ENDS)]))

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: neither cut nor stripped. plain: stripped."""
        text = processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text if self.as_upstream else text.strip()


def _tokens(config, pixels: Tensor) -> int:
    """Tokens that the model makes of each tile of `pixels` `(…, height, width)`."""
    rows, columns = (length // config.vision_config.patch_size for length in pixels.shape[-2:])
    return rows * columns // config.scale_factor**2


def _crops(ids: Tensor, mark: int) -> list[tuple[list[int], int]]:
    """For every image of the batch, the tokens of each of its tiles and then of the whole, and the tiles' columns.

    A row of tiles ends with a line break, so that `<fake_token_around_image>` does not follow at once.
    """
    found = []
    for row, runs in zip(ids.tolist(), token_runs(ids, mark), strict=True):
        if not runs:
            continue
        require(sum(runs[-1]) < len(row), "the prompt ends within an image; a token that ends it must follow")
        fake, before = row[sum(runs[-1])], 0
        images: list[list[tuple[int, int]]] = []
        for start, length in runs:
            if not images or row[before:start].count(fake) > 1:
                images.append([])
            images[-1].append((start, length))
            before = start + length
        for crops in images:
            breaks = (number for number, run in enumerate(crops, 1) if row[sum(run)] != fake)
            found.append(([length for _, length in crops], next(breaks, len(crops) - 1)))
    return found
