import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from camera_trap_al.exceptions import DataError
from camera_trap_al.photos import images
from camera_trap_al.photos.images import IMAGE_BYTES, IMAGE_SIZE, read_crops, read_photo, square_around

SIZE = (IMAGE_SIZE, IMAGE_SIZE)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def plain_decode(path: Path) -> np.ndarray:
    """The reference: Pillow's full decode and bilinear resize, upright."""
    return plain_crop(path, None)


def plain_crop(path: Path, pixels: tuple[int, int, int, int] | None) -> np.ndarray:
    with Image.open(path) as photo:
        upright = ImageOps.exif_transpose(photo).convert("RGB")
        return np.asarray(upright.crop(pixels).resize(SIZE, Image.Resampling.BILINEAR))


def waves(width: int, height: int) -> Image.Image:
    """A smooth picture with coarse and fine structure, all over."""
    y, x = np.mgrid[0:height, 0:width] / 1024
    channels = [np.sin(9 * x + 5 * y), np.cos(7 * x * y), np.sin(40 * x) * np.cos(30 * y)]
    return Image.fromarray((127.5 * (1 + np.stack(channels, axis=2))).astype(np.uint8))


def quarters() -> Image.Image:
    """A photo with another colour in each corner."""
    image = Image.new("RGB", (64, 48), RED)
    image.paste(GREEN, (32, 0, 64, 24))
    image.paste(BLUE, (0, 24, 32, 48))
    image.paste(WHITE, (32, 24, 64, 48))
    return image


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """The colours of the corners, each channel 0 or 255, clockwise from the upper left."""
    middle = IMAGE_SIZE // 4
    at = [(middle, middle), (middle, -middle), (-middle, -middle), (-middle, middle)]
    return [tuple(255 * (pixels[y, x] > 127)) for y, x in at]


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_photo_becomes_a_square_of_rgb_bytes(tmp_path):
    quarters().save(tmp_path / "a.png")
    pixels = read_photo(tmp_path / "a.png")
    assert (pixels.shape, pixels.dtype, pixels.nbytes) == ((256, 256, 3), np.uint8, IMAGE_BYTES)
    assert corners(pixels) == [RED, GREEN, WHITE, BLUE]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright_as_its_exif_data_says(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    quarters().save(path, exif=exif_with(orientation), quality=95)
    # Turned after it was resized, so that rows and columns are rounded in the other order.
    np.testing.assert_allclose(read_photo(path).astype(int), plain_decode(path), atol=1)


def test_a_photo_that_was_taken_on_edge_is_turned_by_a_quarter(tmp_path):
    quarters().save(tmp_path / "a.jpg", exif=exif_with(6), quality=95)  # 6: the left side belongs at the top
    assert corners(read_photo(tmp_path / "a.jpg")) == [BLUE, RED, GREEN, WHITE]


def test_damaged_exif_data_does_not_spoil_good_pixels(tmp_path):
    # A number of the wrong type: Pillow raises TypeError or struct.error when it writes such data again.
    exif = exif_with(6)
    exif[0x011A] = 72.0  # XResolution, a rational number (type 5)
    buffer = io.BytesIO()
    quarters().save(buffer, "JPEG", exif=exif, quality=95)
    whole = buffer.getvalue()
    at = whole.index(struct.pack(">HH", 0x011A, 5))
    failed_by_pillow = 0
    for wrong_type in range(1, 13):
        path = tmp_path / f"{wrong_type}.jpg"
        path.write_bytes(whole[:at] + struct.pack(">HH", 0x011A, wrong_type) + whole[at + 4 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about the damage
            assert corners(read_photo(path)) == [BLUE, RED, GREEN, WHITE]
            try:
                plain_decode(path)
            except (TypeError, struct.error, AttributeError):
                failed_by_pillow += 1
    assert failed_by_pillow, "the data is not odd enough to show anything"


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_data_that_is_no_such_thing_does_not_spoil_good_pixels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    exif = b"Exif\0\0" + b"nonsense" * 4
    quarters().save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    assert corners(read_photo(path)) == [RED, GREEN, WHITE, BLUE]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK"])
def test_every_colour_mode_becomes_rgb_as_pillow_converts_it(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    quarters().convert(mode).save(path)
    with Image.open(path) as photo:
        assert photo.mode == mode
    np.testing.assert_array_equal(read_photo(path), plain_decode(path))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255, 255])])
def test_transparency_changes_no_colour_and_gives_no_warning(tmp_path, transparency):
    image = quarters().quantize(4)
    image.save(tmp_path / "clear.png", transparency=transparency)
    image.save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "clear.png"), read_photo(tmp_path / "opaque.png"))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped_to_white(tmp_path, name):
    grey = np.linspace(0, 65535, IMAGE_SIZE * IMAGE_SIZE).astype(np.uint16).reshape(SIZE)
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 256 256 65535\n" + grey.astype(">u2").tobytes())
    else:
        Image.fromarray(grey).save(tmp_path / name)
    np.testing.assert_array_equal(read_photo(tmp_path / name), np.repeat((grey // 256)[:, :, None], 3, axis=2))


def test_the_suffix_does_not_matter_to_the_decoder(tmp_path):
    quarters().save(tmp_path / "a.jpg", "PNG")
    assert corners(read_photo(tmp_path / "a.jpg")) == [RED, GREEN, WHITE, BLUE]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_picture_counts(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    second = Image.new("RGB", (64, 48), WHITE)
    quarters().save(path, save_all=True, append_images=[second], **({"lossless": True} if suffix == ".webp" else {}))
    assert corners(read_photo(path)) == [RED, GREEN, WHITE, BLUE]


def test_of_a_jpeg_with_a_preview_behind_it_the_photo_counts(tmp_path):
    path = tmp_path / "a.jpg"
    quarters().save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), WHITE)], quality=95)
    with Image.open(path) as photo:
        assert photo.format == "MPO"
    assert corners(read_photo(path)) == [RED, GREEN, WHITE, BLUE]


@pytest.mark.parametrize("size", [(2048, 1536), (1046, 802), (700, 3000), (40, 30)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quick_way_gives_the_pixels_of_pillow(tmp_path, monkeypatch, mode, size):
    """Pillow's draft mode is the reference: the same library decodes, at the same scale."""
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, quality=80)
    quick = read_photo(path)
    monkeypatch.setattr(images, "_decoded_quickly", lambda photo, file, scale: None)
    np.testing.assert_array_equal(quick, read_photo(path))


def test_stray_bytes_that_libjpeg_only_warns_of_do_not_spoil_a_photo(tmp_path):
    path = tmp_path / "a.jpg"
    quarters().save(path, quality=95)
    expected = read_photo(path)
    whole = path.read_bytes()
    start_of_scan = whole.index(b"\xff\xda")
    path.write_bytes(whole[:start_of_scan] + b"\x00\x01" + whole[start_of_scan:])
    with pytest.raises(ValueError, match="extraneous"):
        images.simplejpeg.decode_jpeg(path.read_bytes())
    np.testing.assert_array_equal(read_photo(path), expected)


def test_another_way_to_resize_may_be_given(tmp_path):
    quarters().save(tmp_path / "a.png")
    given = []
    pixels = read_photo(tmp_path / "a.png", squeeze=lambda image: given.append(image.shape) or np.zeros((256, 256, 3)))
    assert given == [(48, 64, 3)] and not pixels.any()


def test_a_photo_that_may_not_be_read_is_a_data_error(tmp_path):
    path = tmp_path / "a.jpg"
    quarters().save(path)
    path.chmod(0)
    tmp_path.chmod(0o755)
    assert "Permission denied" in told_to_an_ordinary_user(path)


def told_to_an_ordinary_user(path: Path) -> str:
    """The error that `read_photo` raises; in a child with the rights of nobody, since root may read everything."""
    at_read, at_write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12, which threads of others may alarm
        child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            read_photo(path)
        except DataError as error:
            os.write(at_write, str(error).encode())
        finally:
            os._exit(0)
    os.close(at_write)
    os.waitpid(child, 0)
    with os.fdopen(at_read) as pipe:
        return pipe.read()


def truncated(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, r"truncated"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("This is a text file, whatever it is called."), "it is none of JPEG, PNG, .*"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=["truncated", "empty", "text", "a folder", "not there"],
)
def test_what_cannot_be_decoded_is_a_data_error_that_names_it(tmp_path, spoil, reason):
    path = tmp_path / "a.jpg"
    spoil(path)
    with pytest.raises(DataError, match=rf"/a\.jpg: cannot be read as a photo: .*{reason}.*\.$") as caught:
        read_photo(path)
    assert caught.value.path == path
    assert str(caught.value).count("a.jpg") == 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".ppm"])
def test_damaged_bytes_give_pixels_or_a_data_error_and_never_another_error(tmp_path, suffix):
    rng = np.random.default_rng(7)
    path = tmp_path / f"a{suffix}"
    quarters().save(path, **({} if suffix in {".bmp", ".ppm"} else {"exif": exif_with(6)}))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(damaged), 400), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about the damage
            try:
                assert read_photo(path).shape == (256, 256, 3)
            except DataError as error:
                assert error.path == path


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is so large and holds no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("bound_of_pillow", [Image.MAX_IMAGE_PIXELS, None])
def test_a_huge_photo_is_refused_without_decoding(tmp_path, monkeypatch, bound_of_pillow):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound_of_pillow)  # some programs take Pillow's own bound away
    path = tmp_path / "a.png"
    path.write_bytes(png_of_size(20_000, 20_000))
    with pytest.raises(DataError, match=r"a\.png: .* it has more than 178 million pixels"):
        read_photo(path)


def test_a_large_jpeg_decoded_small_is_near_the_full_decode(tmp_path):
    path = tmp_path / "a.jpg"
    waves(1280, 1024).save(path, quality=90)
    assert np.abs(read_photo(path).astype(float) - plain_decode(path)).mean() < 1.0


@pytest.mark.data
def test_real_photos_decoded_small_are_near_the_full_decode(data):
    differences = [
        np.abs(read_photo(path).astype(float) - plain_decode(path)).mean()
        for path in sorted((data / "camera_trap_fullsize").glob("*.jpg"))
    ]
    assert len(differences) >= 30
    assert np.mean(differences) < 1.0  # grey levels, so 1/255 of the range
    assert max(differences) < 1.5


# Crops. A box is (x, y, width, height), in shares of the photo; pixels are (left, top, right, bottom).


@pytest.mark.parametrize(
    ("box", "padding", "pixels"),
    [
        # Photos of 1000 x 500. The expected squares were worked out by hand.
        ((0.4, 0.4, 0.1, 0.2), 0.0, (400, 200, 500, 300)),  # a square already
        ((0.4, 0.4, 0.1, 0.2), 0.1, (390, 190, 510, 310)),  # a tenth of 100 more on each side
        ((0.4, 0.4, 0.2, 0.2), 0.0, (400, 150, 600, 350)),  # 200 x 100 grows to 200 x 200 around its middle
        ((0.4, 0.2, 0.1, 0.6), 0.0, (300, 100, 600, 400)),  # 100 x 300 grows to 300 x 300
        ((0.0, 0.0, 0.1, 0.2), 0.1, (0, 0, 120, 120)),  # would begin at -10: moved inside, not cut
        ((0.9, 0.8, 0.1, 0.2), 0.1, (880, 380, 1000, 500)),
        ((0.1, 0.4, 0.4, 0.1), 0.0, (100, 25, 500, 425)),
        ((0.1, 0.0, 0.4, 0.1), 0.0, (100, 0, 500, 400)),
        ((0.1, 0.4, 0.6, 0.1), 0.0, (100, 0, 700, 500)),  # 600 are higher than the photo: all of its height
        ((0.0, 0.0, 1.0, 1.0), 0.1, (0, 0, 1000, 500)),
    ],
)
def test_a_box_becomes_a_square_as_far_as_the_photo_allows(box, padding, pixels):
    assert square_around(box, 1000, 500, padding) == pixels


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.5, 0.3), (0.999, 0.998)])
def test_a_box_of_one_pixel_or_less_gives_that_pixel(corner):
    x, y = corner
    for share in (1.0, 0.1):
        found = square_around((x, y, share * 0.001, share * 0.002), 1000, 500)
        assert found == (round(1000 * x), round(500 * y), round(1000 * x) + 1, round(500 * y) + 1)


shares = st.floats(0, 1, allow_subnormal=False)


@given(shares, shares, shares, shares, st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1))
def test_a_square_lies_in_the_photo_and_holds_its_box(x, y, right, bottom, width, height, padding):
    (x, right), (y, bottom) = sorted((x, right)), sorted((y, bottom))
    found = square_around((x, y, right - x, bottom - y), width, height, padding)
    assert 0 <= found[0] < found[2] <= width and 0 <= found[1] < found[3] <= height
    sides = found[2] - found[0], found[3] - found[1]
    assert sides[0] == sides[1] or min(sides) == min(width, height), "a square unless the photo is too small"
    # To half a pixel, since the ends of a square are whole numbers, and half of one more since its length is.
    assert found[0] <= x * width + 1.01 and right * width <= found[2] + 1.01
    assert found[1] <= y * height + 1.01 and bottom * height <= found[3] + 1.01


BOXES = [(0.1, 0.2, 0.3, 0.2), (0.5, 0.5, 0.5, 0.5), (0.0, 0.0, 0.05, 0.4), (0.0, 0.0, 1.0, 1.0)]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_cut_out_of_the_photo_as_it_stands_upright(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    waves(300, 200).save(path, exif=exif_with(orientation), quality=95)
    size = (200, 300) if orientation >= 5 else (300, 200)
    crops = read_crops(path, BOXES)
    for box, crop in zip(BOXES, crops, strict=True):
        assert (crop.shape, crop.dtype) == ((256, 256, 3), np.uint8)
        np.testing.assert_array_equal(crop, plain_crop(path, square_around(box, *size)))


def test_each_corner_of_a_photo_that_was_taken_on_edge_is_found_where_it_is_seen(tmp_path):
    quarters().save(tmp_path / "a.jpg", exif=exif_with(6), quality=95)  # 48 x 64 when upright
    boxes = [(x, y, 0.3, 0.3) for x, y in [(0.1, 0.1), (0.6, 0.1), (0.6, 0.6), (0.1, 0.6)]]
    seen = [tuple(255 * (crop.mean((0, 1)) > 127)) for crop in read_crops(tmp_path / "a.jpg", boxes)]
    assert seen == [BLUE, RED, GREEN, WHITE]


def test_the_whole_of_a_square_photo_is_the_photo(tmp_path):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        waves(1100, 1100).save(path, exif=exif_with(orientation))
        (crop,) = read_crops(path, [(0, 0, 1, 1)], padding=0)
        # Turned before it was resized, so that rows and columns are rounded in the other order.
        np.testing.assert_allclose(crop.astype(int), read_photo(path).astype(int), atol=1)
        if orientation <= 4:
            np.testing.assert_array_equal(crop, read_photo(path))


def test_a_box_of_one_pixel_gives_its_colour(tmp_path):
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[7, 9] = (10, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (crop,) = read_crops(tmp_path / "a.png", [(9 / 50, 7 / 40, 1 / 50, 1 / 40)])
    assert (crop == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("share", "decoded"),
    [
        # A photo of 4300 x 4200 and boxes that are squares of 4200 x share: decoded at the smallest scale that leaves
        # 512 pixels of each.
        ([1.0], (4200 // 8, 538)),  # 525
        ([0.9], (1050, 1075)),  # 3780 / 8 were too few: 945
        ([0.3], (2100, 2150)),  # 630
        ([0.2], (4200, 4300)),  # 840 are less than twice 512
        ([1.0, 0.3], (2100, 2150)),  # the smallest counts
        ([], (4200 // 8, 538)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_as_large_as_its_smallest_crop_needs(tmp_path, monkeypatch, share, decoded, orientation):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4300, 4200)).save(path, exif=exif_with(orientation))
    size = (4200, 4300) if orientation == 6 else (4300, 4200)
    boxes = [(0.0, 0.0, 4200 * part / size[0], 4200 * part / size[1]) for part in share]
    sizes, turns = [], images.TURNS.copy()
    monkeypatch.setitem(turns, 1, lambda image: sizes.append(image.shape[:2]) or image)
    monkeypatch.setitem(turns, 6, lambda image, turn=turns[6]: sizes.append(image.shape[:2]) or turn(image))
    monkeypatch.setattr(images, "TURNS", turns)
    crops = read_crops(path, boxes, padding=0)
    assert sizes == [decoded] and len(crops) == len(boxes)


def test_the_smallest_crop_is_measured_in_the_upright_photo(tmp_path):
    """Upright it is 1200 x 6000, and the box 480 x 540: too small for half the scale. Lying it were 2400 x 108."""
    path, decoded = tmp_path / "a.jpg", []
    Image.new("RGB", (6000, 1200)).save(path, exif=exif_with(6))
    read_crops(path, [(0.0, 0.0, 0.4, 0.09)], padding=0, squeeze=lambda crop: decoded.append(crop.shape) or crop)
    assert decoded == [(540, 540, 3)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_crops_by_the_quick_way_are_those_of_pillow(tmp_path, monkeypatch, mode):
    path = tmp_path / "a.jpg"
    waves(2100, 1601).convert(mode).save(path, quality=80)
    for boxes in (BOXES[:1], BOXES[1:2], BOXES[3:], BOXES):
        quick = read_crops(path, boxes)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_decoded_quickly", lambda photo, file, scale: None)
            np.testing.assert_array_equal(quick, read_crops(path, boxes))


def differences_from_full_decode(path: Path, boxes: list[tuple[float, ...]]) -> list[float]:
    with Image.open(path) as photo:
        size = ImageOps.exif_transpose(photo).size
    return [
        float(np.abs(crop.astype(float) - plain_crop(path, square_around(box, *size))).mean())
        for box, crop in zip(boxes, read_crops(path, boxes), strict=True)
    ]


@pytest.mark.parametrize("orientation", [1, 8])
def test_crops_of_a_large_jpeg_decoded_small_are_near_the_full_decode(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    waves(2400, 2100).save(path, quality=90, exif=exif_with(orientation))
    for box in ((0.1, 0.2, 0.5, 0.45), (0.45, 0.5, 0.55, 0.5), (0.0, 0.0, 1.0, 1.0)):
        assert max(differences_from_full_decode(path, [box])) < 1.0  # grey levels


@pytest.mark.data
def test_crops_of_real_photos_are_near_the_full_decode(data):
    boxes = [(0.3, 0.4, 0.5, 0.3), (0.55, 0.6, 0.45, 0.4)]
    found = [
        difference
        for path in sorted((data / "camera_trap_fullsize").glob("*.jpg"))
        for difference in differences_from_full_decode(path, boxes)
    ]
    assert len(found) >= 60
    # 0.4 and 1.1 if the edges are compared exactly; the rest is since they are whole numbers of the decoded pixels.
    assert np.mean(found) < 1.5
    assert max(found) < 5.0


def test_another_way_to_resize_gets_each_part_in_one_piece_of_memory(tmp_path):
    quarters().save(tmp_path / "a.jpg", exif=exif_with(6))
    given = []
    read_crops(tmp_path / "a.jpg", [(0.0, 0.0, 0.5, 0.25)], padding=0, squeeze=given.append)
    assert given[0].shape == (24, 24, 3) and given[0].flags.c_contiguous


def test_crops_of_what_cannot_be_decoded_are_the_same_data_error(tmp_path):
    path = tmp_path / "a.jpg"
    truncated(path)
    with pytest.raises(DataError) as whole:
        read_photo(path)
    with pytest.raises(DataError) as crops:
        read_crops(path, BOXES)
    assert (str(crops.value), crops.value.path) == (str(whole.value), path)
