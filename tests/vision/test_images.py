"""Strange images become upright 8-bit RGB, with a word about it, or are refused by name."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from plphp_core.vision.images import as_rgb

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def picture(mode="RGB"):
    return Image.fromarray(np.stack([RAMP, RAMP.T, 255 - RAMP], -1)).convert(mode)


def reopened(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_an_upright_rgb_image_is_handed_on_as_it_is():
    image = picture()
    found, notes = as_rgb(image)
    assert found is image and notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LA", "RGBA", "PA", "RGBX"])
def test_other_modes_equal_what_lmms_evals_convert_gives_and_are_noted(mode):
    image = picture("L").convert(mode) if mode in ("PA", "LA") else picture(mode)
    found, notes = as_rgb(image)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))
    assert len(notes) == 1 and notes[0].startswith(f"mode {mode} to RGB")
    assert ("transparency dropped" in notes[0]) == (mode in ("LA", "RGBA", "PA"))


def test_transparent_palette_is_noted():
    image = reopened(picture("P"), "PNG", transparency=0)
    assert as_rgb(image)[1] == ("mode P to RGB, transparency dropped",)
    image = reopened(picture(), "PNG", transparency=(0, 0, 255))
    assert image.mode == "RGB" and as_rgb(image)[1] == ("mode RGB to RGB, transparency dropped",)


def test_sixteen_bits_keep_their_contrast():
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for image in (
        Image.fromarray(wide),
        reopened(Image.fromarray(wide), "PNG"),
        Image.fromarray(wide.astype(np.int32)),
    ):
        found, notes = as_rgb(image)
        assert np.array_equal(np.asarray(found)[..., 0], wide // 257)
        assert notes == (f"mode {image.mode} scaled to 8 bits",)


def test_whole_numbers_that_fit_eight_bits_stay_what_they_are():
    for wide in (np.int32, np.uint16):
        found, _ = as_rgb(Image.fromarray(RAMP.astype(wide)))
        assert np.array_equal(np.asarray(found)[..., 0], RAMP)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = reopened(picture().resize((24, 16)), "JPEG", exif=exif)
    found, notes = as_rgb(image)
    assert notes == (f"EXIF orientation {orientation} applied",)
    assert np.array_equal(np.asarray(found), np.asarray(ImageOps.exif_transpose(image)))
    assert found.size == ((16, 24) if orientation >= 5 else (24, 16))
    assert as_rgb(found)[1] == ()


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_animations_are_refused(form):
    frames = [picture(), picture().rotate(90), picture().rotate(180)]
    image = reopened(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"8 × 8 pixels, mode \w+: 3 frames; pass the frames that matter"):
        as_rgb(image)


def test_a_still_gif_is_a_picture():
    found, notes = as_rgb(reopened(picture(), "GIF"))
    assert found.mode == "RGB" and notes[0].startswith("mode P to RGB")


@pytest.mark.parametrize(
    "image, message",
    [
        (Image.new("RGB", (0, 5)), r"0 × 5 pixels, mode RGB: it has no pixels"),
        (Image.new("RGB", (5, 0)), r"5 × 0 pixels"),
        (Image.new("F", (4, 4)), r"mode F: floating-point pixels"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), r"values 70000 … 70000 are not 16-bit"),
    ],
)
def test_what_has_no_rgb_form_is_refused_by_name(image, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(image)


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="expected a PIL image, got str"):
        as_rgb("cat.png")


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_is_neither_applied_nor_noted(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = reopened(picture().resize((24, 16)), "JPEG", exif=exif)
    found, notes = as_rgb(image)
    assert found.size == (24, 16) and notes == ()


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0II*\0"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_unreadable_exif_costs_nobody_the_picture(form, exif):
    found, notes = as_rgb(reopened(picture(), form, exif=exif))
    assert found.size == (8, 8) and notes == ("unreadable EXIF ignored",)


@pytest.mark.parametrize("mode, form", [("P", "PNG"), ("RGB", "PNG"), ("RGB", "JPEG"), ("L", "JPEG")])
def test_a_truncated_file_is_an_error_here_and_not_later(mode, form, monkeypatch):
    """Pixels are read before the image is handed on: importing lmms-eval makes PIL fill in grey, silently."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    noise.save(file, form)
    image = Image.open(io.BytesIO(file.getvalue()[:1500]))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    with pytest.raises(OSError, match="truncated"):
        as_rgb(image)
