"""Whatever is dropped becomes an upright RGB image or one sentence."""

import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from plphp_core.demo.uploads import MOST_IMAGES, sorted_out
from plphp_core.records.errors import UserError
from tests.demo.factories import halves


@pytest.mark.parametrize("mode, name", [
    ("RGB", "a.png"), ("RGBA", "a.png"), ("LA", "a.png"), ("P", "a.gif"), ("L", "a.jpg"), ("CMYK", "a.jpg"),
    ("1", "a.png"), ("I;16", "a.png"), ("RGBA", "a.webp"),
])  # fmt: skip
def test_modes_become_rgb(tmp_path, mode, name):
    image = halves().convert("L").convert(mode) if mode == "I;16" else halves().convert(mode)
    image.save(tmp_path / name)
    ((found,), _) = sorted_out([tmp_path / name])
    assert (found.mode, found.size) == ("RGB", (40, 20))


def test_a_phones_picture_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    halves().save(tmp_path / "a.jpg", exif=exif)
    ((found,), _) = sorted_out([tmp_path / "a.jpg"])
    assert found.size == (20, 40)
    assert found.getpixel((10, 4))[0] > 200 and found.getpixel((10, 36))[2] > 200  # left is now above


def png_header(width, height):
    """A PNG that says it is so large, and ends where its pixels should begin."""
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start, check = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13), struct.pack(">I", zlib.crc32(b"IHDR" + data))
    return start + b"IHDR" + data + check + b"\0\0\0\1IDAT"


def saved(image, form, **options):
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("content, said", [
    (b"", "not a picture that can be read"),
    (b"hello", "not a picture that can be read"),
    (b"\x89PNG\r\n\x1a\n" + b"garbage" * 50, "drop.png: damaged or truncated"),
    (saved(Image.effect_noise((200, 200), 80), "PNG")[:5000], "drop.png: damaged or truncated"),
    (saved(halves(), "GIF", save_all=True, append_images=[halves().rotate(180)]), "2 frames; pass the frames that"),
    (png_header(10_000, 6_000), "10000 × 6000 pixels, more than 50 million pixels; shrink it first"),
    (png_header(60_000, 60_000), "drop.png: more than 50 million pixels; shrink it first"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture that can be read"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not a picture that can be read"),
])  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, content, said):
    (tmp_path / "drop.png").write_bytes(content)
    images, refused = sorted_out([tmp_path / "drop.png"])
    (sentence,) = refused.values()
    assert not images and said in sentence and "\n" not in sentence and str(tmp_path) not in sentence


def test_a_missing_file_and_too_many(tmp_path):
    assert sorted_out([tmp_path / "gone.png"])[1][str(tmp_path / "gone.png")].startswith("gone.png: ")
    with pytest.raises(UserError, match="13 images; at most 12"):
        sorted_out([tmp_path / "a.png"] * (MOST_IMAGES + 1))
