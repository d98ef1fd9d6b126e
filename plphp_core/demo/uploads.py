"""Files that somebody dropped → upright RGB images, or one sentence on what is wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from plphp_core.evaluation.answering import whole_images_only
from plphp_core.records.errors import UserError
from plphp_core.vision.images import as_rgb

MOST_PIXELS = 50_000_000  # a phone's largest pictures; decoded, 150 MB
LIMIT = f"{MOST_PIXELS // 10**6} million pixels"
MOST_IMAGES = 12  # of one question
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # pixels only: an EPS file would be executed


def read_images(paths: Sequence[str | Path]) -> list[Image.Image]:
    """The images of one question, in order.

    Raises:
        UserError: too many files, or one that cannot be used; the message names it.
    """
    if len(paths) > MOST_IMAGES:
        raise UserError(f"{len(paths)} images; at most {MOST_IMAGES} go with one question: take some away")
    return [read_image(Path(path)) for path in paths]


def read_image(path: Path) -> Image.Image:
    """An upright RGB image of 8 bits.

    Raises:
        UserError: no picture, a damaged or too large one, or one that has no sensible RGB form.
    """
    try:
        with warnings.catch_warnings(), whole_images_only():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise UserError(f"{path.name}: {width} × {height} pixels, more than {LIMIT}; shrink it first")
                return as_rgb(image)[0].copy()
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path.name}: not a picture that can be read; use a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path.name}: more than {LIMIT}; shrink it first") from error
    except ValueError as error:  # as_rgb's own sentence
        raise UserError(f"{path.name}: {error}") from error
    except Exception as error:  # PIL's decoders raise what they like at garbage
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path.name}: damaged or truncated ({reason}); save it again, as PNG or JPEG") from error
