"""LLaVA-OneVision: SigLIP tiles, a Qwen2 decoder."""

import math

from torch import nn

from plphp_core.family import Family, encoded_images, json_turns, place_marks
from plphp_core.method import require

SYSTEM_PROMPT = "You are a helpful assistant."


class LlavaOnevision(Family):
    """One image: a base tile and anyres tiles with a newline token per row. Several: one tile and one newline each."""

    name = "llava_onevision"
    title = "LLaVA-OneVision"
    model_classes = ("LlavaOnevisionForConditionalGeneration",)
    default_checkpoint = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    special_tokens = ("<|im_start|>", "<|im_end|>", "<image>")

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        require(inputs.get("pixel_values_videos") is None, "video inputs cannot be pruned; pass frames as images")
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        sizes = inputs.get("image_sizes")
        if inputs.get("pixel_values") is None or sizes is None:
            return []
        per_sample = inputs.get("batch_num_images")
        per_sample = [1] * len(sizes) if per_sample is None else per_sample.tolist()
        alone = [n == 1 for n in per_sample for _ in range(n)]
        return [_image_size(model.config, size, tiled) for size, tiled in zip(sizes.tolist(), alone, strict=True)]

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


def _image_size(config, size: list[int], tiled: bool) -> int:
    """Tokens of an image of `size` (height, width), as `LlavaOnevisionModel.pack_image_features` makes them."""
    from transformers.image_processing_utils import select_best_resolution

    side = config.vision_config.image_size // config.vision_config.patch_size
    if not tiled:
        return side * side + 1
    tile = config.vision_config.image_size
    height, width = select_best_resolution(size, config.image_grid_pinpoints)
    rows, columns = side * (height // tile), side * (width // tile)
    # The padding that made the image fit the grid is cut off again (unpad_image).
    if size[1] / size[0] > columns / rows:
        rows -= 2 * ((rows - int(round(size[0] * (columns / size[1]), 7))) // 2)
    else:
        columns -= 2 * ((columns - int(round(size[1] * (rows / size[0]), 7))) // 2)
    most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = math.sqrt(rows * columns / (most * side**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return side * side + rows * (columns + 1)
