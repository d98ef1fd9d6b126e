"""Qwen2.5-VL: as Qwen2-VL; its encoder attends in windows, but hands the decoder its tokens in the same order."""

import itertools

import torch
from torch import Tensor

from plphp_core.families.qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    """What lmms-eval's wrapper, models/simple/qwen2_5_vl.py, does differently from the one of Qwen2-VL."""

    name = "qwen2_5_vl"
    title = "Qwen2.5-VL"
    model_classes = ("Qwen2_5_VLForConditionalGeneration",)
    default_checkpoint = "Qwen/Qwen2.5-VL-7B-Instruct"
    max_new_tokens = 32768
    pixels = (256 * 28 * 28, 1605632)
    strips = False
    ignored_ends = ("\n\n",)

    def tower_order(self, vision, frames: int, rows: int, columns: int) -> Tensor:
        """Window by window, each row by row."""
        side = vision.window_size // vision.spatial_merge_size // vision.patch_size
        cells = itertools.product(range(frames), range(rows), range(columns))
        by_window = sorted(enumerate(cells), key=lambda cell: (cell[1][0], cell[1][1] // side, cell[1][2] // side))
        return torch.tensor([number for number, _ in by_window])
