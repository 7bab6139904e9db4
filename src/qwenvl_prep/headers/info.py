"""What the header bytes of one picture say."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImageInfo"]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """
    What the header bytes of one picture say; nothing in it needed a decoder.

    Attributes
    ----------
    format : str
        The type found in the content, never taken from a suffix: ``"BMP"``,
        ``"DIB"``, ``"GIF"``, ``"HEIF"``, ``"AVIF"``, ``"ICNS"``, ``"ICO"``,
        ``"JPEG"``, ``"JPEG2000"``, ``"PNG"``, ``"SGI"``, ``"TIFF"`` or
        ``"WEBP"``; ``"PIXELS"`` for a Pillow image or an array.
    media_type : str
        The label that belongs to these bytes, for example ``"image/jpeg"``;
        empty for ``"PIXELS"``.
    height, width : int
        Size in pixels as stored, before the orientation is applied.
    orientation : int
        EXIF orientation, 1 to 8; 1 is upright.
    channels : int
        Samples per pixel after decoding, alpha included; a palette counts as
        the three or four samples that it stands for.
    bit_depth : int
        Bits per decoded sample: 1, 2, 4, 8, 10, 12, 16 or 32.
    has_alpha : bool
        Whether there is an alpha channel or a transparent colour.
    colour : str
        ``"grey"``, ``"rgb"``, ``"palette"``, ``"cmyk"`` or ``"other"``.
    n_frames : int
        Frames of an animation, pages of a TIFF, pictures of an icon; at least 1.
    has_icc : bool
        Whether a colour profile is embedded.
    is_progressive : bool
        JPEG of more than one scan or interlaced PNG, which decoders cannot stream.
    is_lossless : bool
        Whether the stored compression keeps every pixel.
    encoded_size : int
        Length of the file in bytes; 0 for ``"PIXELS"``.
    rows_at_once : int
        Rows that a decoder has to hold to give one of them: the height of a TIFF's
        tiles, or of strips that hold one colour each; 1 for everything else.
    frame : int or None
        Which frame, page or picture this describes, counted from 0 in the order of
        the file; None for the one that is taken unasked: the first, the largest of
        an icon, the primary one of a HEIF.
    icc_profile : bytes
        The embedded colour profile as it is, broken or not, up to 1 MiB; empty if
        there is none, and also if it lies beyond the bytes that a header may take.
    """

    format: str
    media_type: str
    height: int
    width: int
    orientation: int = 1
    channels: int = 3
    bit_depth: int = 8
    has_alpha: bool = False
    colour: str = "rgb"
    n_frames: int = 1
    has_icc: bool = False
    is_progressive: bool = False
    is_lossless: bool = False
    encoded_size: int = 0
    rows_at_once: int = 1
    frame: int | None = None
    icc_profile: bytes = b""

    @property
    def upright_height(self) -> int:
        """Height in pixels once the orientation is applied."""
        return self.width if self.orientation >= 5 else self.height

    @property
    def upright_width(self) -> int:
        """Width in pixels once the orientation is applied."""
        return self.height if self.orientation >= 5 else self.width

    def __repr__(self) -> str:
        turned = f", orientation {self.orientation}" if self.orientation != 1 else ""
        return f"<ImageInfo {self.format} {self.height}x{self.width}{turned}>"
