"""Augmented views of an image: pixels and boxes are transformed together, before the towers.

Features are computed once, so augmentation has to come first: a stored map cannot be flipped,
since the towers are not equivariant to mirroring.

Axes: H, W of the image, N boxes.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from regionspot.boxes import FloatArray, box_area, clip_boxes
from regionspot.errors import InputError
from regionspot.types import ImageArray

# A box of which a crop leaves less than this fraction shows too little of its object.
MIN_VISIBLE = 0.4
MIN_SCALE, MAX_SCALE = 0.1, 10.0
# The ImageNet mean, which is near the towers' own padding.
CANVAS = (124, 116, 104)


@dataclass(frozen=True)
class View:
    """An augmentation of an image; the identity by default.

    The size of the image does not change, as both towers resize the whole image anyway.

    Attributes:
        flip: horizontal flip.
        scale: below 1 the image is shrunk by this factor onto the centre of a plain canvas; above
            1 its centre is cropped and enlarged. Boxes are clipped to the crop, and dropped where
            less than `MIN_VISIBLE` of their area is left.
    """

    flip: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        # 2 and 2.0 are one view, and must have one cache key.
        object.__setattr__(self, "flip", bool(self.flip))
        object.__setattr__(self, "scale", float(self.scale))
        if not MIN_SCALE <= self.scale <= MAX_SCALE:
            raise InputError(
                f"the scale of a view must be from {MIN_SCALE} to {MAX_SCALE}, got {self.scale}"
            )

    def __str__(self) -> str:
        parts = ["flip"] * self.flip + [f"scale={self.scale:g}"] * (self.scale != 1)
        return ",".join(parts) or "original"

    def boxes(self, boxes: FloatArray, width: int, height: int) -> tuple[FloatArray, list[int]]:
        """The boxes in the view, and their rows.

        Args:
            boxes: (N, 4) xyxy pixels of the original image.
            width: of the original image, in pixels.
            height: of the original image, in pixels.

        Returns:
            (M, 4) xyxy pixels of the view, and M row numbers in increasing order.
        """
        moved = boxes
        if self.flip:
            moved = np.stack(
                [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1
            )
        kept = np.arange(len(boxes))
        if self.scale != 1:
            x, y, wide, high = self._window(width, height)
            ratio = np.array([wide / width, high / height] * 2, np.float32)
            offset = np.array([x, y] * 2, np.float32)
            if self.scale < 1:
                moved = moved * ratio + offset
            else:
                moved = (moved - offset) / ratio
                rest = clip_boxes(moved, width, height)
                kept = np.flatnonzero(
                    (box_area(rest) >= MIN_VISIBLE * box_area(moved)) & (box_area(rest) > 0)
                )
                moved = rest
        return np.ascontiguousarray(moved[kept], np.float32), kept.tolist()

    def pixels(self, image: ImageArray) -> ImageArray:
        """The view of an image, uint8 (H, W, 3), of the same size."""
        if self.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        if self.scale == 1:
            return image
        height, width = image.shape[:2]
        left, top, wide, high = self._window(width, height)
        if self.scale < 1:
            small = Image.fromarray(image).resize((wide, high), Image.Resampling.BICUBIC)
            canvas = np.full_like(image, CANVAS)
            canvas[top : top + high, left : left + wide] = np.asarray(small)
            return canvas
        cut = Image.fromarray(image[top : top + high, left : left + wide])
        return np.array(cut.resize((width, height), Image.Resampling.BICUBIC))

    def _window(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height, in whole pixels, of the shrunk image or the crop."""
        factor = self.scale if self.scale < 1 else 1 / self.scale
        wide, high = max(1, round(width * factor)), max(1, round(height * factor))
        return (width - wide) // 2, (height - high) // 2, wide, high


IDENTITY = View()


def parse_view(text: str) -> View:
    """Parse a view: `flip`, `scale=0.75` or `flip,scale=0.75`.

    Raises:
        InputError: anything else.
    """
    flip, scale = False, 1.0
    for part in text.split(","):
        key, _, value = part.partition("=")
        try:
            if part == "flip":
                flip = True
            elif key == "scale":
                scale = float(value)
            else:
                raise ValueError
        except ValueError as error:
            raise InputError(
                f"unknown view {text!r}: expected flip, scale=NUMBER, or both with a comma"
            ) from error
    return View(flip, scale)
