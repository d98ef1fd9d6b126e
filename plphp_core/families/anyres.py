"""The geometry of anyres tiles, which LLaVA-NeXT and LLaVA-OneVision share.

An image is encoded once squeezed into a base tile, and once scaled into a canvas of tiles, in proportion and centred.
The canvas' tokens form one grid; rows and columns of pure padding are cut off, and every row ends with a newline token.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from plphp_core.pruning.tower import TokenPatches
from plphp_core.vision.token_geometry import nowhere, raster


class AnyresCells(NamedTuple):
    """One side of the tiles' token grid: `cells` tokens that cover the patches `first` … `last` of the canvas."""

    cells: int
    first: int
    last: int


def patches_per_side(config) -> int:
    """Patches along a side of a tile."""
    return config.vision_config.image_size // config.vision_config.patch_size


def base_edges(config) -> Tensor:
    """Where a tile's rows of patches begin and end, in fractions of its side, `(patches + 1,)` float64.

    The tower's last pixels, fewer than a patch, belong to no token: 6 of 384 in SigLIP.
    """
    side, vision = patches_per_side(config), config.vision_config
    return torch.linspace(0, side * vision.patch_size / vision.image_size, side + 1, dtype=torch.float64)


def anyres_size(config, size: list[int], most: int | None = None) -> int:
    """Tokens of a tiled image of `size` (height, width), as the models' `pack_image_features` makes them.

    Args:
        most: tokens of the tiles, in tiles, above which their grid is shrunk; None: never.
    """
    down, across = kept_grid(config, size, most)
    return patches_per_side(config) ** 2 + down.cells * (across.cells + 1)


def anyres_boxes(config, size: list[int], most: int | None = None) -> Tensor:
    """Boxes of a tiled image's tokens, `(tokens, 4)`: the tiles' tokens lie over those of the base tile."""
    canvas, base = _canvas(config, size), base_edges(config)
    fitted = _fitted(size, canvas)
    edges = []
    for cells, whole, length in zip(kept_grid(config, size, most), canvas, fitted, strict=True):
        at = torch.linspace(cells.first, cells.last, cells.cells + 1, dtype=torch.float64)
        before = (whole - length) // 2  # padding
        edges += [(_pixel(config, one, end) - before) / length for one, end in ((at[:-1], False), (at[1:], True))]
    tiles = raster(*edges).unflatten(0, (len(edges[0]), len(edges[2])))
    newlines = nowhere(len(tiles))[:, None]
    whole_image = raster(base[:-1], base[1:], base[:-1], base[1:])
    return torch.cat([whole_image, torch.cat([tiles, newlines], dim=1).flatten(0, 1)])


def anyres_patches(config, size: list[int], class_tokens: int, most: int | None = None) -> TokenPatches:
    """Of which patches a tiled image's tokens are made: one each, or four where the grid was shrunk.

    Args:
        class_tokens: how many there are in front of each crop's patches.
    """
    side = patches_per_side(config)
    crop = side**2 + class_tokens
    columns_of_tiles = _canvas(config, size)[1] // config.vision_config.image_size
    tiles = _canvas(config, size)[0] // config.vision_config.image_size * columns_of_tiles
    (rows, down), (columns, across) = (_sources(cells) for cells in kept_grid(config, size, most))
    row, column = rows[:, None, :, None], columns[None, :, None, :]  # (cells, cells, sources, sources)
    tile = row // side * columns_of_tiles + column // side
    places = (1 + tile) * crop + class_tokens + row % side * side + column % side
    weights = (down[:, None, :, None] * across[None, :, None, :]).flatten(2)
    places = torch.nn.functional.pad(places.flatten(2), (0, 0, 0, 1), value=-1).flatten(0, 1)  # a newline per row
    weights = torch.nn.functional.pad(weights, (0, 0, 0, 1)).flatten(0, 1)
    whole = torch.arange(class_tokens, crop)[:, None].expand(-1, places.shape[1])
    places = torch.cat([whole, places])
    weights = torch.cat([torch.full(whole.shape, 1 / places.shape[1]), weights])
    return TokenPatches(places, (1 + tiles) * crop, crop, weights if places.shape[1] > 1 else None)


def _sources(cells: AnyresCells) -> tuple[Tensor, Tensor]:
    """Patches of the canvas that the cells along one side are made of, and how much of each, `(cells, 1 or 2)`.

    By two where cells are fewer than patches, as bilinear interpolation without aligned corners takes them.
    """
    number = cells.last - cells.first
    if number == cells.cells:
        return torch.arange(cells.first, cells.last)[:, None], torch.ones(number, 1)
    at = ((torch.arange(cells.cells, dtype=torch.float64) + 0.5) * (number / cells.cells) - 0.5).clamp(min=0)
    low = at.floor().long()
    both = torch.stack([low, (low + 1).clamp(max=number - 1)], dim=1)
    return cells.first + both, torch.stack([1 - (at - low), at - low], dim=1).float()


def kept_grid(config, size: list[int], most: int | None = None) -> tuple[AnyresCells, AnyresCells]:
    """Rows and columns of the tiles' tokens, without newlines: unpadded, and shrunk if there are too many."""
    side, tower = patches_per_side(config), config.vision_config.image_size
    rows, columns = (side * (length // tower) for length in _canvas(config, size))
    down = across = 0  # patches of padding cut off on each side (`unpad_image`)
    if size[1] / size[0] > columns / rows:
        down = (rows - int(round(size[0] * (columns / size[1]), 7))) // 2
    else:
        across = (columns - int(round(size[1] * (rows / size[0]), 7))) // 2
    kept = [rows - 2 * down, columns - 2 * across]
    ratio = 1.0 if most is None else math.sqrt(kept[0] * kept[1] / (most * side**2))
    if ratio > 1.1:
        kept = [int(number // ratio) for number in kept]
    return AnyresCells(kept[0], down, rows - down), AnyresCells(kept[1], across, columns - across)


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
    side, vision = patches_per_side(config), config.vision_config
    tile = (at / side - 1e-9).ceil() - 1 if end else (at / side + 1e-9).floor()
    return tile * vision.image_size + (at - tile * side) * vision.patch_size
