"""The sample browser's data as named pieces of JSON, small pictures among them: inside the page while it is small, else
as scripts beside it.

A page opened by double-click may not fetch files, but it may add a `<script src>`: so a piece beside the page is a
script that calls one function with the piece's name and value.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from plphp_core.vision.images import as_rgb

FOLDER = "report_files"
RECEIVER = "receivePiece"
LONG_SIDE = 224  # pixels of a picture
EXACT = 16_000  # bytes up to which a small picture is kept to the pixel
ALBUM = 1_000_000  # bytes of pictures in a piece
_NAMED = re.compile(rb"%s/([0-9a-f]{16})" % FOLDER.encode())
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script_safe(value: object) -> str:
    """JSON in ASCII that neither ends a script element nor starts markup wherever it is put in a page.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def data_uri(image: Image.Image) -> str:
    """An upright RGB image as WebP, at most LONG_SIDE pixels long; a small drawing stays exact."""
    if max(image.size) > LONG_SIDE:
        image = image.copy()
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        content = _webp(image, quality=80)
    elif len(content := _webp(image, lossless=True)) > EXACT:
        content = _webp(image, quality=80)
    return f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}"


def _webp(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


class Pieces:
    """Pieces collected in a hidden folder beside the page, so that a large run never has to fit into memory.

    Use as a context manager: the hidden folder goes when the block ends.

    Attributes:
        size: bytes of all pieces so far.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._hidden = Path(tempfile.mkdtemp(dir=folder, prefix=".report."))
        self._names: list[str] = []
        self._digest = hashlib.sha256()
        self._places: dict[str, tuple[int, int]] = {}  # digest of a picture → its album, its place there
        self._album: list[str] = []
        self._albums = 0
        self.size = 0

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *exception) -> None:
        shutil.rmtree(self._hidden, ignore_errors=True)

    def add(self, name: str, value: object) -> None:
        """Keep a piece; `name` is made of letters, digits and hyphens and used once."""
        content = f"{_head(name)}{script_safe(value)});\n".encode("ascii")
        (self._hidden / f"{name}.js").write_bytes(content)
        self._names.append(name)
        self._digest.update(content)
        self.size += len(content)

    def picture(self, image: Image.Image) -> tuple[int, int] | None:
        """Keep a small copy of an image, each content once: (number of its album, place in it). None for an image that
        the evaluation refuses, too.
        """
        try:
            upright, _ = as_rgb(image)
        except (ValueError, OSError):
            return None
        key = hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).hexdigest()
        if key not in self._places:
            if sum(map(len, self._album)) > ALBUM:
                self.close_album()
            self._places[key] = (self._albums, len(self._album))
            self._album.append(data_uri(upright))
        return self._places[key]

    def close_album(self) -> None:
        """Keep the pictures so far as a piece, "images-<number of the album>"."""
        if self._album:
            self.add(f"images-{self._albums}", self._album)
            self._album, self._albums = [], self._albums + 1

    def inline(self) -> Iterator[tuple[str, str]]:
        """Name and JSON of every piece, for the page itself."""
        for name in self._names:
            content = (self._hidden / f"{name}.js").read_text(encoding="ascii")
            yield name, content.removeprefix(_head(name)).removesuffix(");\n")

    def beside(self) -> tuple[str, list[Path]]:
        """Put the pieces into a folder that is named after their content: an older page keeps its own.

        Returns:
            the folder relative to the page, and the files.
        """
        place = self._folder / FOLDER / self._digest.hexdigest()[:16]
        if not place.is_dir():
            place.parent.mkdir(exist_ok=True)
            os.chmod(self._hidden, 0o755)
            os.replace(self._hidden, place)
        return place.relative_to(self._folder).as_posix(), [place / f"{name}.js" for name in self._names]


def remove_unused(folder: Path) -> None:
    """Remove the pieces of earlier pages in `folder`: the subfolders that no report*.html of today names."""
    used = {name for page in folder.glob("report*.html") for name in _NAMED.findall(page.read_bytes())}
    for place in (folder / FOLDER).glob("*"):
        if place.name.encode() not in used:
            shutil.rmtree(place, ignore_errors=True)
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def _head(name: str) -> str:
    return f"{RECEIVER}({json.dumps(name)},"
