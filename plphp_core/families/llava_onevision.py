"""LLaVA-OneVision: SigLIP tiles, a Qwen2 decoder."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plphp_core.families.base import Family, json_turns, place_marks
from plphp_core.pruning.hf import encoded_images
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

    def token_boxes(self, model: nn.Module, inputs: dict) -> list[Tensor]:
        return [_token_boxes(model.config, size, tiled) for size, tiled in _sizes(inputs)]

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
    side = _side(config)
    if not tiled:
        return side * side + 1
    down, across = _kept_grid(config, size)
    return side * side + down.cells * (across.cells + 1)


def _token_boxes(config, size: list[int], tiled: bool) -> Tensor:
    """Boxes of an image of `size` (height, width): the tiles' tokens lie over those of the base tile.

    The tower's last pixels, fewer than a patch, belong to no token: 6 of 384 in SigLIP.
    """
    (height, width), side = size, _side(config)
    tower, read = config.vision_config.image_size, _side(config) * config.vision_config.patch_size
    base = torch.linspace(0, read / tower, side + 1, dtype=torch.float64)
    if not tiled:  # `pad_to_square`: half of the padding before the image, an odd pixel behind it
        longest = max(height, width)
        rows, columns = ((base * longest - (longest - length) // 2) / length for length in (height, width))
        return torch.cat([raster(rows[:-1], rows[1:], columns[:-1], columns[1:]), nowhere(1)])
    canvas = _canvas(config, size)
    fitted = _fitted(size, canvas)
    edges = []
    for cells, whole, length in zip(_kept_grid(config, size), canvas, fitted, strict=True):
        at = torch.linspace(cells.first, cells.last, cells.cells + 1, dtype=torch.float64)
        before = (whole - length) // 2  # padding
        edges += [(_pixel(config, one, end) - before) / length for one, end in ((at[:-1], False), (at[1:], True))]
    tiles = raster(*edges).unflatten(0, (len(edges[0]), len(edges[2])))
    newlines = nowhere(len(tiles))[:, None]
    whole = raster(base[:-1], base[1:], base[:-1], base[1:])  # squeezed into a square
    return torch.cat([whole, torch.cat([tiles, newlines], dim=1).flatten(0, 1)])


class _Cells(NamedTuple):
    """One side of the tiles' token grid: `cells` tokens that cover the patches `first` … `last` of the canvas."""

    cells: int
    first: int
    last: int


def _kept_grid(config, size: list[int]) -> tuple[_Cells, _Cells]:
    """Rows and columns of the tiles' tokens, without newlines: unpadded, and shrunk if there are too many."""
    side, tower = _side(config), config.vision_config.image_size
    canvas = _canvas(config, size)
    rows, columns = (side * (length // tower) for length in canvas)
    down = across = 0  # patches of padding cut off on each side (`unpad_image`)
    if size[1] / size[0] > columns / rows:
        down = (rows - int(round(size[0] * (columns / size[1]), 7))) // 2
    else:
        across = (columns - int(round(size[1] * (rows / size[0]), 7))) // 2
    kept = [rows - 2 * down, columns - 2 * across]
    most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = math.sqrt(kept[0] * kept[1] / (most * side**2))
    if ratio > 1.1:
        kept = [int(number // ratio) for number in kept]
    return _Cells(kept[0], down, rows - down), _Cells(kept[1], across, columns - across)


def _canvas(config, size: list[int]) -> tuple[int, int]:
    """Height and width of the tiles together: the allowed resolution that loses least of the image."""
    from transformers.image_processing_utils import select_best_resolution

    return select_best_resolution(size, config.image_grid_pinpoints)


def _fitted(size: list[int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image within the canvas, as `get_patch_output_size` scales it."""
    (height, width), (canvas_height, canvas_width) = size, canvas
    down, across = canvas_height / height, canvas_width / width
    if across < down:
        return min(math.ceil(height * across), canvas_height), canvas_width
    return canvas_height, min(math.ceil(width * down), canvas_width)


def _pixel(config, at: Tensor, end: bool) -> Tensor:
    """Canvas pixel where the patches numbered `at` begin, or where those before them end."""
    side, vision = _side(config), config.vision_config
    tile = (at / side - 1e-9).ceil() - 1 if end else (at / side + 1e-9).floor()
    return tile * vision.image_size + (at - tile * side) * vision.patch_size


def _side(config) -> int:
    """Patches along a side of a tile."""
    return config.vision_config.image_size // config.vision_config.patch_size
