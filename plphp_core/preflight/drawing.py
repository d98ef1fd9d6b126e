"""Pictures to try things with where no data are needed."""

from __future__ import annotations

from functools import cache


@cache
def drawn(width: int, height: int):
    """An RGB picture of coloured stripes (PIL), the same every time."""
    from PIL import Image

    red = Image.linear_gradient("L").resize((width, height))
    green = red.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    blue = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, blue))
