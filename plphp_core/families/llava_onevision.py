"""LLaVA-OneVision: SigLIP tiles, a Qwen2 decoder."""

import torch
from torch import Tensor, nn

from plphp_core.families.anyres import anyres_boxes, anyres_patches, anyres_size, base_edges, patches_per_side
from plphp_core.families.base import Family, json_turns, place_marks
from plphp_core.families.llava import vision_tower
from plphp_core.pruning.hf import encoded_images
from plphp_core.pruning.tower import TokenPatches, Tower
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import nowhere, raster

SYSTEM_PROMPT = "You are a helpful assistant."


class LlavaOnevision(Family):
    """One image: a base tile and anyres tiles with a newline token per row. Several: one tile and one newline each."""

    name = "llava_onevision"
    title = "LLaVA-OneVision"
    model_classes = ("LlavaOnevisionForConditionalGeneration",)
    default_checkpoint = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    special_tokens = ("<|im_start|>", "<|im_end|>", "<image>")
    located = True

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        require(inputs.get("pixel_values_videos") is None, "video inputs cannot be pruned; pass frames as images")
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        return [_image_size(model.config, size, tiled) for size, tiled in _sizes(inputs)]

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        return [_token_boxes(model.config, size, tiled) for size, tiled in _sizes(inputs)]

    def tower(self, model: nn.Module) -> Tower:
        return vision_tower(model)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        return [_patches(model.config, size, tiled) for size, tiled in _sizes(inputs)]

    def prompt(self, context: str, num_images: int) -> str:
        turns = json_turns(place_marks(context, num_images)) or [place_marks(context, num_images)]
        text = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"
        for i, turn in enumerate(turns):
            text += f"<|im_start|>{('user', 'assistant')[i % 2]}\n{turn}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        inputs = {"text": prompts, "padding": True, "padding_side": "left", "return_tensors": "pt"}
        # Nested: a flat list would tile every image of a multi-image prompt.
        nested = [sample for sample in images if sample]
        return processor(**inputs, images=nested) if nested else processor(**inputs)


def _sizes(inputs: dict) -> list[tuple[list[int], bool]]:
    """Height and width of every image, and whether it is cut into tiles: those that are alone in their prompt are."""
    sizes = inputs.get("image_sizes")
    if inputs.get("pixel_values") is None or sizes is None:
        return []
    per_sample = inputs.get("batch_num_images")
    per_sample = [1] * len(sizes) if per_sample is None else per_sample.tolist()
    alone = [n == 1 for n in per_sample for _ in range(n)]
    return list(zip(sizes.tolist(), alone, strict=True))


def _image_size(config, size: list[int], tiled: bool) -> int:
    """Tokens of an image of `size` (height, width), as `LlavaOnevisionModel.pack_image_features` makes them."""
    return anyres_size(config, size, _most(config)) if tiled else patches_per_side(config) ** 2 + 1


def _token_boxes(config, size: list[int], tiled: bool) -> Tensor:
    """Boxes of an image of `size` (height, width)."""
    if tiled:
        return anyres_boxes(config, size, _most(config))
    # `pad_to_square`: half of the padding before the image, an odd pixel behind it
    (height, width), base = size, base_edges(config)
    longest = max(height, width)
    rows, columns = ((base * longest - (longest - length) // 2) / length for length in (height, width))
    return torch.cat([raster(rows[:-1], rows[1:], columns[:-1], columns[1:]), nowhere(1)])


def _patches(config, size: list[int], tiled: bool) -> TokenPatches:
    """Of an image of `size` (height, width)."""
    if tiled:
        return anyres_patches(config, size, 0, _most(config))
    patches = patches_per_side(config) ** 2
    return TokenPatches(torch.tensor([*range(patches), -1])[:, None], patches, patches)


def _most(config) -> int:
    """How many tiles' worth of tokens the tiles of an image may have."""
    return int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
