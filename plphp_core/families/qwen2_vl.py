"""Qwen2-VL: images of any size in patches, a Qwen2 decoder with M-RoPE."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, count_marks, cut_at, json_turns, refuse_tokens, through_jpeg
from plphp_core.pruning.hf import encoded_images, tower_layers
from plphp_core.pruning.tower import TokenPatches, Tower
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import grid

SYSTEM_PROMPT = "You are a helpful assistant."
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"  # as the chat template writes an image
PADS = ("<|image_pad|>", "<|video_pad|>")  # the processor counts these against images and videos
LONGEST = 200  # times as wide as high, or as high as wide


class Qwen2VL(Family):
    """One image: t·h·w patches, four of which make a token. Newer Qwen-VL families differ in the values below."""

    name = "qwen2_vl"
    title = "Qwen2-VL"
    model_classes = ("Qwen2VLForConditionalGeneration",)
    default_checkpoint = "Qwen/Qwen2-VL-7B-Instruct"
    max_new_tokens = 128
    special_tokens = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    image_token = "<|image_pad|>"
    uses_chat_template = True
    located = True
    # Of lmms-eval's wrapper, models/simple/qwen2_vl.py:
    pixels: ClassVar[tuple[int, int]] = (3136, 602112)  # fewest and most pixels of an image
    jpeg_quality: ClassVar[int | None] = 85  # images travel as JPEG data URLs; None: they don't
    strips: ClassVar[bool] = True  # spaces around the answer
    ignored_ends: ClassVar[tuple[str, ...]] = ()  # entries of `until` that do not cut
    # Of the model's own chat template, where a conversation brings none:
    plain_system_prompt: ClassVar[str | None] = SYSTEM_PROMPT

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        video = inputs.get("pixel_values_videos") is not None or encoded_images(inputs, "video") is not None
        require(not video, "video inputs cannot be pruned; pass frames as images")
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        grids = inputs.get("image_grid_thw")
        if inputs.get("pixel_values") is None or grids is None:
            return []
        return (grids.prod(-1) // model.config.vision_config.spatial_merge_size**2).tolist()

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """A token is `spatial_merge_size`² patches; they come row by row."""
        grids = inputs.get("image_grid_thw")
        if inputs.get("pixel_values") is None or grids is None:
            return []
        merged = model.config.vision_config.spatial_merge_size
        return [grid(rows // merged, columns // merged).repeat(frames, 1) for frames, rows, columns in grids.tolist()]

    def tower(self, model: nn.Module) -> Tower:
        visual, vision = model.model.visual, model.config.vision_config
        return Tower(tower_layers(visual, vision.depth), vision.depth - 1, visual.merger)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """A token is `spatial_merge_size`² patches, which stand one after another, in the tower's own order."""
        grids = inputs.get("image_grid_thw")
        vision = model.config.vision_config
        merged = vision.spatial_merge_size
        found = []
        for frames, rows, columns in [] if grids is None else grids.tolist():
            order = self.tower_order(vision, frames, rows // merged, columns // merged)
            places = order.argsort()[:, None] * merged**2 + torch.arange(merged**2)
            found.append(TokenPatches(places, places.numel(), places.numel()))
        return found

    def tower_order(self, vision, frames: int, rows: int, columns: int) -> Tensor:
        """The tokens of an image of so many, in the order in which the tower has them."""
        return torch.arange(frames * rows * columns)

    def remember(self, model: nn.Module, cache) -> None:
        """M-RoPE's distance between positions and token counts, which the model object keeps for one conversation."""
        cache.rope_deltas = model.model.rope_deltas

    def resume(self, model: nn.Module, cache) -> None:
        if cache is None or hasattr(cache, "rope_deltas"):
            model.model.rope_deltas = getattr(cache, "rope_deltas", None)

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The processor saved with the checkpoint, with the family's limits on pixels."""
        processor = super().load_processor(checkpoint, revision, model)
        fewest, most = self.pixels
        processor.image_processor.size = {"shortest_edge": fewest, "longest_edge": most}  # areas, in spite of the names
        return processor

    # --- prompts ---------------------------------------------------------------------------------------------------

    def images(self, images: list) -> list:
        if not self.as_upstream or self.jpeg_quality is None:
            return images
        return [through_jpeg(image, self.jpeg_quality) for image in images]

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: all images first, then the text without its marks, Multi-View's JSON too. plain: in place, turns.

        Raises:
            ValueError: the text marks some images but not as many as there are (upstream would ignore the marks), or
                contains one of the model's own image tokens.
        """
        marks = count_marks([context], num_images)
        refuse_tokens(context, PADS)
        turns = None if self.as_upstream else json_turns(context)
        turns = turns or [context]
        if self.as_upstream or not marks:
            turns = [IMAGE * num_images + turns[0].replace(IMAGE_MARK, ""), *turns[1:]]
        system = SYSTEM_PROMPT if self.as_upstream else self.plain_system_prompt
        text = "" if system is None else f"<|im_start|>system\n{system}<|im_end|>\n"
        for i, turn in enumerate(turns):
            text += f"<|im_start|>{('user', 'assistant')[i % 2]}\n{turn.replace(IMAGE_MARK, IMAGE)}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """Images are resized here, by PIL, as both upstream and Qwen's own examples do (`qwen_vl_utils.fetch_image`).

        What the processor would do to them afterwards is then nothing; alone, it would resize by torchvision, to
        slightly other pixels.
        """
        flat = [_fit(image, processor.image_processor) for sample in images for image in sample]
        return processor(text=prompts, images=flat or None, padding=True, padding_side="left", return_tensors="pt")

    # --- answers ---------------------------------------------------------------------------------------------------

    def end_tokens(self, processor) -> list[int] | None:
        """Upstream stops at the tokenizer's end token alone, not at <|endoftext|>."""
        return [processor.tokenizer.eos_token_id] if self.as_upstream else None

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: cut at the first of `until`. plain: uncut."""
        tokenizer = processor.tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not self.as_upstream:
            return text.strip()
        text = cut_at(text, gen_kwargs.get("until", [tokenizer.eos_token]), self.ignored_ends)
        return text.strip() if self.strips else text


def _fit(image, image_processor):
    """The image resized to whole tokens within the processor's limits on pixels."""
    width, height = image.size
    size, side = image_processor.size, image_processor.patch_size * image_processor.merge_size
    height, width = resized(height, width, side, size["shortest_edge"], size["longest_edge"])
    return image.resize((width, height))


def resized(height: int, width: int, side: int, fewest: int, most: int) -> tuple[int, int]:
    """Height and width of an image as the model sees it: multiples of `side`, within `fewest` … `most` pixels.

    As `qwen_vl_utils.smart_resize` 0.0.14; transformers' own differs for images less than half a token high or wide.

    Raises:
        ValueError: one side is more than 200 times the other.
    """
    named = f"image of {width} × {height} pixels"
    ratio = max(height, width) / min(height, width)
    require(ratio <= LONGEST, f"{named}: one side may be at most {LONGEST} times the other")
    rows, columns = (max(1, round(length / side)) for length in (height, width))
    if rows * columns * side**2 > most:
        shrink = math.sqrt(height * width / most)
        rows, columns = (math.floor(length / shrink / side) for length in (height, width))
    elif rows * columns * side**2 < fewest:
        grow = math.sqrt(fewest / (height * width))
        rows, columns = (math.ceil(length * grow / side) for length in (height, width))
    ratio = max(rows, columns) / max(1, min(rows, columns))
    require(ratio <= LONGEST, f"{named}: as whole tokens, one side is {ratio:.0f} times the other, at most {LONGEST}")
    return rows * side, columns * side
