"""Image files of every kind, sound and broken, and what Pillow makes of them."""

import io
import struct
import zlib
from itertools import product

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from ngvae_tools.datasets import jpeg, png, tiff
from ngvae_tools.datasets.pillow import UnusableImageError, decode_with_pillow


def photograph(height, width, channels=3, seed=0):
    """A smooth image with some noise, uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)).resize((width, height))
    array = np.clip(np.asarray(coarse) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
    return np.concatenate([array, array[:, :, :1]], axis=2)[:, :, :channels].copy()


def encoded(image, form, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain_pngs():
    """PNG files that the fast decoder takes, by name."""
    image = photograph(19, 23, 4)
    colours = Image.fromarray(image)
    files = {mode: encoded(colours.convert(mode), "PNG") for mode in ("L", "LA", "RGB", "RGBA")}
    files["I;16"] = encoded(image[:, :, 0].astype(np.uint16) * 257, "PNG")
    files["one pixel"] = encoded(image[:1, :1, :3], "PNG")
    files["other writer"] = imagecodecs.png_encode(np.ascontiguousarray(image[:, :, :3]), level=9)
    files["stored"] = encoded(image[:, :, :3], "PNG", compress_level=0)
    chunks = png_chunks(files["RGB"])
    half = len(chunks[1][1]) // 2
    halves = [(b"IDAT", chunks[1][1][:half]), (b"IDAT", b""), (b"IDAT", chunks[1][1][half:])]
    files["two IDAT"] = from_chunks([chunks[0], *halves, chunks[2]])
    harmless = [(b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0"), (b"pHYs", struct.pack(">IIB", 10, 10, 1))]
    harmless += [(b"cHRM", struct.pack(">8I", *range(1, 9))), (b"tIME", bytes([7, 230, 1, 1, 1, 1, 1]))]
    harmless += [(b"tEXt", b"Software\0a painter")]
    files["harmless chunks"] = from_chunks([chunks[0], *harmless, *chunks[1:]])
    files["bytes after the end"] = files["RGB"] + b"more"
    return files


def plain_jpegs():
    """JPEG files that the fast decoder takes, by name: sizes, subsamplings, scans, qualities."""
    files = {}
    for (height, width), chroma in product([(1, 1), (8, 8), (17, 31), (16, 48), (33, 2)], ["444", "422", "420"]):
        for progressive, quality in product([False, True], [30, 95]):
            name = f"{height}x{width} {chroma} {quality}{' progressive' * progressive}"
            image = photograph(height, width, seed=quality)
            files[name] = encoded(
                image, "JPEG", subsampling=f"{':'.join(chroma)}", progressive=progressive, quality=quality
            )
    for chroma in ("411", "440"):
        files[f"rare {chroma}"] = imagecodecs.jpeg8_encode(photograph(37, 45), level=80, subsampling=chroma)
    files["grey"] = encoded(photograph(17, 31)[:, :, 0], "JPEG")
    files["grey progressive"] = encoded(photograph(17, 31)[:, :, 0], "JPEG", progressive=True)
    files["restarts"] = encoded(photograph(40, 40), "JPEG", restart_marker_blocks=2)
    files["comment"] = encoded(photograph(17, 31), "JPEG", comment=b"hello", optimize=True)
    files["exif upright"] = encoded(photograph(17, 31), "JPEG", exif=oriented(1))
    files["profile"] = encoded(photograph(17, 31), "JPEG", icc_profile=b"p" * 70000)
    return files


def plain_tiffs():
    """TIFF files that the fast decoder takes, by name."""
    files = {}
    image = photograph(19, 23)
    kinds = {"RGB": image, "L": image[:, :, 0], "I;16": image[:, :, 0].astype(np.uint16) * 251}
    kinds["F"] = image[:, :, 0].astype(np.float32) / 7
    for (name, array), compression in product(kinds.items(), [None, "tiff_lzw", "tiff_adobe_deflate"]):
        files[f"{name} {compression}"] = encoded(array, "TIFF", compression=compression)
        files[f"{name} {compression} strips"] = by_tifffile(
            array, compression=compression and compression.removeprefix("tiff_"), rowsperstrip=4, description="x" * 9
        )
    return files


def by_tifffile(array, **options):
    file = io.BytesIO()
    options = {
        "metadata": None,
        "photometric": "rgb" if array.ndim == 3 and array.shape[2] == 3 else "minisblack",
    } | options
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunks(data):
    """Name and content of every chunk."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        chunks.append((name, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def from_chunks(chunks):
    """A PNG of chunks, their sums right."""
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return png.SIGNATURE + b"".join(parts)


def broken(data, rng):
    """A copy with bits flipped, bytes changed, a part cut out or doubled, or the end cut off."""
    copy = bytearray(data)
    how = rng.integers(6)
    if how == 0:
        return bytes(copy[: rng.integers(len(copy))])
    start = int(rng.integers(len(copy)))
    stop = start + int(rng.integers(1, 9))
    if how == 1:
        del copy[start:stop]
    elif how == 2:
        copy[start:start] = copy[start:stop]
    elif how == 3:
        copy[start:stop] = bytes(rng.choice([0, 255], len(copy[start:stop])).astype(np.uint8))
    else:
        for _ in range(rng.integers(1, 4)):
            copy[rng.integers(len(copy))] ^= 1 << rng.integers(8)
    return bytes(copy)


def broken_with_right_sums(data, rng):
    """A PNG with one chunk broken inside, its sum corrected: only the content betrays it."""
    chunks = png_chunks(data)
    number = int(rng.integers(len(chunks)))
    name, content = chunks[number]
    if content:
        chunks[number] = (name, broken(content, rng))
    return from_chunks(chunks)


def files_for_pillow():
    """Sound files that the fast decoders leave to Pillow, by name and suffix."""
    image = photograph(24, 24, 4)
    rgba, rgb = Image.fromarray(image), Image.fromarray(image[:, :, :3])
    wide = image[:, :, :3].astype(np.uint16) * 257
    files = {f"{mode}.png": encoded(rgb.convert(mode), "PNG") for mode in ("1", "P")}
    files["transparent palette.png"] = encoded(rgb.convert("P"), "PNG", transparency=3)
    files["transparent.png"] = encoded(rgb, "PNG", transparency=(1, 2, 3))
    files["interlaced.png"] = interlaced_png(image[:, :, :3])
    files["16 bit RGB.png"] = imagecodecs.png_encode(wide)
    files["16 bit LA.png"] = imagecodecs.png_encode(np.ascontiguousarray(wide[:, :, :2]))
    files["xmp.png"] = with_chunk(encoded(rgb, "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    files["xmp in text.png"] = with_chunk(encoded(rgb, "PNG"), b"tEXt", b"XML:com.adobe.xmp\0" + XMP)
    files["xmp.jpg"] = encoded(rgb, "JPEG", xmp=XMP)
    for orientation in range(1, 9):
        exif = oriented(orientation)
        files[f"turned {orientation}.png"] = encoded(rgb, "PNG", exif=exif)
        files[f"turned {orientation}.tif"] = encoded(rgb, "TIFF", exif=exif)
        if orientation > 1:
            files[f"turned {orientation}.jpg"] = encoded(rgb, "JPEG", exif=exif)
    files["CMYK.jpg"] = encoded(rgb.convert("CMYK"), "JPEG")
    files["Adobe RGB.jpg"] = with_segment(encoded(rgb, "JPEG", keep_rgb=True), b"\xee", b"Adobe\0\x64\0\0\0\0\0")
    files["previews.jpg"] = encoded(rgb, "MPO", save_all=True, append_images=[rgb.resize((8, 8))])
    files["JPEG named.png"] = encoded(rgb, "JPEG", exif=oriented(6))
    files["CMYK.tif"] = encoded(rgb.convert("CMYK"), "TIFF")
    files["1 bit.tif"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    files["palette.tif"] = encoded(rgb.convert("P"), "TIFF")
    files["RGBA.tif"] = encoded(rgba, "TIFF", compression="packbits")
    files["16 bit RGB.tif"] = by_tifffile(wide)
    files["big endian.tif"] = by_tifffile(wide[:, :, 0], byteorder=">")
    files["bigtiff.tif"] = by_tifffile(image[:, :, :3], bigtiff=True)
    files["predictor.tif"] = by_tifffile(image[:, :, :3], compression="lzw", predictor=True)
    files["tiles.tif"] = by_tifffile(image[:, :, 0], tile=(16, 16))
    files["white is zero.tif"] = by_tifffile(image[:, :, 0], photometric="miniswhite")
    files["picture.bmp"], files["picture.webp"] = encoded(rgb, "BMP"), encoded(rgb, "WEBP", lossless=True)
    files["one frame.gif"] = encoded(rgb, "GIF")
    return files


def unusable_files():
    """Files that no decoder may accept, by name and suffix, and a part of the reason."""
    image = photograph(24, 24)
    rgb = Image.fromarray(image)
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    whole = {"png": encoded(rgb, "PNG"), "jpg": encoded(rgb, "JPEG"), "tif": encoded(rgb, "TIFF")}
    whole["lzw.tif"] = encoded(rgb, "TIFF", compression="tiff_lzw")
    whole["deflate.tif"] = encoded(rgb, "TIFF", compression="tiff_adobe_deflate")
    files = {f"empty.{suffix}": (b"", "is empty") for suffix in whole}
    for suffix, data in whole.items():
        for part in (1, 8, 20, 50, 80):
            files[f"cut at {part}%.{suffix}"] = data[: len(data) * part // 100], ""
        files[f"text.{suffix}"] = b"hello", "not an image"
    files["wrong sum.png"] = whole["png"][:29] + b"\0\0\0\0" + whole["png"][33:], "not an image"
    files["wrong sum of gamma.png"] = with_chunk(whole["png"], b"gAMA", bytes(4)).replace(b"gAMA\0", b"gAMA\1"), "image"
    files["broken pixels.png"] = with_pixels(whole["png"], png_chunks(whole["png"])[1][1][:-99]), "truncated"
    files["no filter.png"] = with_pixels(whole["png"], zlib.compress(b"\x09" * (73 * 24))), "cannot be decoded"
    files["bomb.png"] = bomb_png(60_000, 60_000), "pixels"
    files["smaller bomb.png"] = bomb_png(10_000, 10_000), "100000000 pixels"
    files["text bomb.png"] = with_chunk(whole["png"], b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), "too large"
    frame = whole["jpg"].index(b"\xff\xc0") + 5
    files["bomb.jpg"] = whole["jpg"][:frame] + b"\xff\xff\xff\xff" + whole["jpg"][frame + 4 :], "pixels"
    tag = struct.pack("<HHI", 256, 4, 1)
    at = whole["tif"].index(tag) + 8
    files["bomb.tif"] = whole["tif"][:at] + struct.pack("<I", 10**8) + whole["tif"][at + 4 :], "pixels"
    for form, suffix in (("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tif")):
        files[f"frames.{suffix}"] = encoded(rgb, form, **frames), "holds several frames or pages: 3"
    for value, name in ((np.nan, "nan"), (np.inf, "infinity")):
        floats = image[:, :, 0].astype(np.float32)
        floats[3, 4] = value
        files[f"{name}.tif"] = encoded(floats, "TIFF"), "non-finite"
        files[f"{name} deflated.tif"] = encoded(floats, "TIFF", compression="tiff_adobe_deflate"), "non-finite"
        files[f"{name} in colour.tif"] = by_tifffile(np.dstack([floats] * 3)), "non-finite"
        files[f"{name} of 64 bits.tif"] = by_tifffile(floats.astype(np.float64)), "non-finite"
    files["beyond float32.tif"] = by_tifffile(np.full((4, 4), 1e300)), "non-finite"
    files["negative.tif"] = encoded(np.full((4, 4), -1, np.int32), "TIFF"), "beyond 16 bits"
    files["pages of colour floats.tif"] = (
        by_tifffile(np.zeros((2, 4, 4, 3), "f4"), photometric="rgb"),
        "holds several frames or pages: 2",
    )
    colour = by_tifffile(np.ones((40, 40, 3), np.float32), compression="zlib")
    files["colour floats cut.tif"] = colour[:-20], "truncated"
    return files


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


def with_chunk(data, name, content):
    chunks = png_chunks(data)
    return from_chunks([chunks[0], (name, content), *chunks[1:]])


def with_pixels(data, content):
    return from_chunks([(b"IDAT", content) if name == b"IDAT" else (name, old) for name, old in png_chunks(data)])


def with_segment(data, marker, content):
    return data[:2] + b"\xff" + marker + struct.pack(">H", len(content) + 2) + content + data[2:]


def interlaced_png(image):
    """The seven passes of Adam7, without a filter."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row for top, left, down, right in passes for row in image[top::down, left::right]]
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return from_chunks([(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")])


def bomb_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return from_chunks([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")])


FAST = {png.SIGNATURE: png.decode_png, jpeg.SIGNATURE: jpeg.decode_jpeg} | dict.fromkeys(
    tiff.SIGNATURES, tiff.decode_tiff
)


def outcome(decode, data):
    """An array, None, or the reason of a rejection."""
    try:
        return decode(data)
    except UnusableImageError as error:
        return str(error)


def by_fast(data):
    """What the fast decoder of a file's kind makes of it; None: it leaves it to Pillow."""
    decode = next((decode for start, decode in FAST.items() if data.startswith(start)), None)
    return None if decode is None else outcome(decode, data)


def by_pillow(data):
    return outcome(decode_with_pillow, data)


def same(a, b):
    """Whether two outcomes are the same array, or the same reason."""
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
