"""Any PIL image → RGB, saying what had to be done to it; what has no sensible RGB form is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from plphp_core.pruning.validation import require

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112  # EXIF tag; 1 means upright
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def as_rgb(image: Image) -> tuple[Image, tuple[str, ...]]:
    """The image upright, in 8-bit RGB, and what was done to get there (nothing for an upright RGB image).

    Alpha is dropped, not blended, as `convert("RGB")` does in lmms-eval's tasks.

    Raises:
        TypeError: not a PIL image.
        ValueError: no pixels, several frames, or numbers that no 8-bit range fits; the message names the image's size
            and mode.
        OSError: a truncated or damaged file.
    """
    from PIL import ImageOps

    if not hasattr(image, "convert"):
        raise TypeError(f"expected a PIL image, got {type(image).__name__} (video and audio are not supported)")
    width, height = image.size
    named = f"image of {width} × {height} pixels, mode {image.mode}"
    require(width > 0 and height > 0, f"{named}: it has no pixels; leave it and its mark out of the sample")
    frames = getattr(image, "n_frames", 1)
    # MPO is a camera's JPEG with previews behind the picture.
    still = frames == 1 or getattr(image, "format", None) == "MPO"
    require(still, f"{named}: {frames} frames; pass the frames that matter as single images")
    notes = [] if frames == 1 else [f"first of {frames} pictures"]
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except (SyntaxError, struct.error):  # what PIL raises on garbage there; the pixels may be whole
        orientation = 1
        notes.append("unreadable EXIF ignored")
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.append(f"EXIF orientation {orientation} applied")
    image.load()  # now, while the caller wants whole files only: PIL would wait until somebody looks at the pixels
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, tuple(notes)
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        image = _eight_bits(image, named)
        notes.append(f"mode {mode} scaled to 8 bits")
    elif mode in ALPHA or "transparency" in image.info:
        notes.append(f"mode {mode} to RGB, transparency dropped")
    else:
        notes.append(f"mode {mode} to RGB")
    return image.convert("RGB"), tuple(notes)


def _eight_bits(image: Image, named: str) -> Image:
    """Greyscale of more than 8 bits: 0 … 65535 becomes 0 … 255, where `convert` would cut everything above 255."""
    from PIL import Image as Images

    values = np.asarray(image)
    require(image.mode != "F", f"{named}: floating-point pixels have no known range; scale them to 8 bits")
    low, high = int(values.min()), int(values.max())
    require(low >= 0 and high <= 65535, f"{named}: values {low} … {high} are not 16-bit; scale them to 8 bits")
    wide = high > 255  # else these are 8-bit values in a wider file
    return Images.fromarray((values // 257 if wide else values).astype(np.uint8))
