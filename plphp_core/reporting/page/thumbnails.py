"""Small pictures of samples as data URIs, each content once, in pieces of about a megabyte."""

from __future__ import annotations

import base64
import hashlib
import io

from PIL import Image

from plphp_core.reporting.page.pieces import Pieces
from plphp_core.vision.images import as_rgb

LONG_SIDE = 224  # pixels
PIECE = 1_000_000  # bytes
EXACT = 16_000  # bytes up to which a small image is kept to the pixel
QUALITY = 80


def data_uri(image: Image.Image) -> str:
    """An upright RGB image, at most LONG_SIDE pixels long; a drawing stays exact, a photograph becomes JPEG."""
    if max(image.size) > LONG_SIDE:
        image = image.copy()
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        kind, content = "jpeg", _encoded(image, "JPEG", quality=QUALITY, optimize=True)
    else:
        kind, content = "webp", _encoded(image, "WEBP", lossless=True)
        if len(content) > EXACT:
            kind, content = "jpeg", _encoded(image, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Thumbnails:
    """Thumbnails in the order they are met; `add` says where one lies: (number of its piece, place in it)."""

    def __init__(self, pieces: Pieces):
        self._pieces = pieces
        self._places: dict[str, tuple[int, int]] = {}
        self._open: list[str] = []
        self._number = self._size = 0

    def add(self, image: Image.Image) -> tuple[int, int] | None:
        """None for an image that the evaluation refuses, too."""
        try:
            upright, _ = as_rgb(image)
        except (ValueError, OSError):
            return None
        key = hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).hexdigest()
        if key not in self._places:
            if self._size > PIECE:
                self.close()
            self._places[key] = (self._number, len(self._open))
            self._open.append(data_uri(upright))
            self._size += len(self._open[-1])
        return self._places[key]

    def close(self) -> None:
        """Hand over the last piece."""
        if self._open:
            self._pieces.add(f"images-{self._number}", self._open)
            self._open, self._size, self._number = [], 0, self._number + 1
