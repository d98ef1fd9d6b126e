"""Where vision tokens lie on their image, and pictures of what they carry.

A box is left, top, right, bottom, in fractions of the image; `Family.token_boxes` makes them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DROPPED = ((38, 42, 51), (124, 132, 148))  # stripes that dropped parts fade to: seen on bright photos and on dark ones
STRIPES = 40  # pairs of them along the longer side
VEIL = 0.86  # how far parts fade
NO_TOKEN = (128, 128, 128)  # where no token lies


def raster(tops: Tensor, bottoms: Tensor, lefts: Tensor, rights: Tensor) -> Tensor:
    """Boxes of a grid, row by row, `(rows · columns, 4)` fp32, from the edges of its rows and columns."""
    rows, columns = len(tops), len(lefts)
    down = [one.repeat_interleave(columns) for one in (tops, bottoms)]
    across = [one.repeat(rows) for one in (lefts, rights)]
    return torch.stack([across[0], down[0], across[1], down[1]], dim=1).float()


def grid(rows: int, columns: int, area: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)) -> Tensor:
    """Boxes of equal cells that fill `area` (left, top, right, bottom), row by row, `(rows · columns, 4)` fp32."""
    left, top, right, bottom = area
    x = torch.linspace(left, right, columns + 1, dtype=torch.float64)
    y = torch.linspace(top, bottom, rows + 1, dtype=torch.float64)
    return raster(y[:-1], y[1:], x[:-1], x[1:])


def tiled(rows: int, columns: int, side: int, read: float = 1.0) -> Tensor:
    """Boxes of `side` · `side` tokens of each of the equal tiles that an image is cut into, tile by tile, row by row.

    Args:
        read: share of a tile's height and of its width that tokens cover, from its upper left corner.
    """
    corners = [(column, row) for row in range(rows) for column in range(columns)]
    areas = [(x / columns, y / rows, (x + read) / columns, (y + read) / rows) for x, y in corners]
    return torch.cat([grid(side, side, area) for area in areas])


def nowhere(tokens: int) -> Tensor:
    """Boxes of tokens without a place, `(tokens, 4)`, nan."""
    return torch.full((tokens, 4), torch.nan)


def painted(boxes: Tensor, values: Tensor | np.ndarray, height: int, width: int) -> np.ndarray:
    """The tokens' values laid over the image, as a density, `(height, width)` float64.

    Each token spreads its value evenly over its box; where boxes overlap, they add up. The pixels' mean is the sum of
    the values, less what lies beyond the image or nowhere. A pixel is counted by the share of it that a box covers.

    Args:
        boxes: `(tokens, 4)`.
        values: `(tokens,)`.
    """
    across, down, area = _coverage(boxes, height, width)
    weight = np.asarray(values, dtype=float) / np.where(area > 0, area, 1.0)
    return np.einsum("th,t,tw->hw", down, np.where(area > 0, weight, 0.0), across, optimize=True)


def kept_share(boxes: Tensor, kept: Tensor | np.ndarray, height: int, width: int) -> np.ndarray:
    """Which share of the tokens that lie over a pixel was kept, `(height, width)` in [0, 1]; nan where none lies.

    Args:
        boxes: `(tokens, 4)`.
        kept: `(tokens,)` bool, or the share of heads that kept each token.
    """
    across, down, _ = _coverage(boxes, height, width)
    everything = np.einsum("th,tw->hw", down, across, optimize=True)
    found = np.einsum("th,t,tw->hw", down, np.asarray(kept, dtype=float), across, optimize=True)
    return np.divide(found, everything, out=np.full_like(found, np.nan), where=everything > 1e-9)


def veiled(pixels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A picture whose dropped parts are grey and striped, and grey where no token lies, `(height, width, 3)` uint8.

    Stripes rather than darkness alone: on a dark photo what is dark may as well be kept.

    Args:
        pixels: `(height, width, 3)`, 0 to 255.
        share: which share of its tokens each pixel kept, as `kept_share`; stripes are the stronger the smaller it is.
    """
    height, width = share.shape
    half = max(1, round(max(height, width) / STRIPES / 2))
    second = (np.add.outer(np.arange(height), np.arange(width)) // half % 2)[..., None]
    stripes = np.where(second, *reversed(np.array(DROPPED, dtype=float)))
    grey = (1 - VEIL) * pixels.mean(axis=2, keepdims=True) + VEIL * stripes
    kept = share[..., None]
    found = np.where(np.isnan(kept), NO_TOKEN, kept * pixels + (1 - kept) * grey)
    return np.clip(found, 0, 255).round().astype(np.uint8)


def _coverage(boxes: Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much of each pixel column and row a box covers, `(tokens, width)` and `(tokens, height)`, and its area."""
    left, top, right, bottom = np.nan_to_num(np.asarray(boxes, dtype=float)).T

    def overlap(low: np.ndarray, high: np.ndarray, pixels: int) -> np.ndarray:
        edges = np.arange(pixels + 1) / pixels
        shared = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return np.clip(shared, 0, None) * pixels

    return overlap(left, right, width), overlap(top, bottom, height), (right - left) * (bottom - top)
