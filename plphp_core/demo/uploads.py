"""Files that somebody dropped → upright RGB images, or one sentence on what is wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from plphp_core.evaluation.encoding import whole_images_only
from plphp_core.records.errors import UserError
from plphp_core.vision.images import as_rgb

MOST_PIXELS = 50_000_000  # a phone's largest pictures; decoded, 150 MB
MOST_IMAGES = 12  # of one question
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # pixels only: an EPS file would be executed


def sorted_out(paths: Sequence[str | Path]) -> tuple[list[Image.Image], dict[str, str]]:
    """The images that can be used, in order, and of every other file why it cannot: one costs the others nothing.

    Raises:
        UserError: too many files.
    """
    if len(paths) > MOST_IMAGES:
        raise UserError(f"{len(paths)} images; at most {MOST_IMAGES} go with one question: take some away")
    images, refused = [], {}
    for path in paths:
        try:
            images.append(_read(Path(path)))
        except UserError as error:
            refused[str(path)] = str(error)
    return images, refused


def _read(path: Path) -> Image.Image:
    too_large = f"more than {MOST_PIXELS // 10**6} million pixels; shrink it first"
    try:
        with warnings.catch_warnings(), whole_images_only():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height <= MOST_PIXELS:
                    return as_rgb(image)[0].copy()
                reason = f"{width} × {height} pixels, {too_large}"
    except UnidentifiedImageError:
        reason = "not a picture that can be read; use a PNG, JPEG or WebP file"
    except Image.DecompressionBombError:
        reason = too_large
    except ValueError as error:  # as_rgb's own sentence
        reason = str(error)
    except Exception as error:  # PIL's decoders raise what they like at garbage
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = f"damaged or truncated ({why}); save it again, as PNG or JPEG"
    raise UserError(f"{path.name}: {reason}")
