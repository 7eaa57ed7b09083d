"""Images to tensors, with OpenCV: decode, resize bilinearly, normalise.

Images are OpenCV's: uint8, BGR, height x width x 3.
"""

import cv2
import numpy as np

from cascade.manifest import Input
from cascade.results import Placement

cv2.setNumThreads(1)


def decode(encoded: np.ndarray, half: bool = False) -> np.ndarray:
    """Return the upright image of an encoded one's bytes; `half`, a JPEG is decoded to half its sides."""
    image = cv2.imdecode(encoded, cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"OpenCV cannot decode an image of {encoded.size} bytes")
    return image


Raw = tuple[int, int, bool]
"""Of a frame of three bytes a pixel: its width, its height, and whether the first byte is red, or blue."""


def pixels(encoded: np.ndarray, raw: Raw | None, half: bool = False) -> np.ndarray:
    """Return a frame's pixels: of an image's bytes, as `decode`, or of a raw frame's."""
    if raw is None:
        return decode(encoded, half)
    width, height, is_rgb = raw
    frame = encoded.reshape(height, width, 3)
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) if is_rgb else frame


class Preprocessor:
    """Makes tensors of one model's input. It keeps its buffers: one thread uses it."""

    def __init__(self, spec: Input) -> None:
        """Make the buffers."""
        self.spec = spec
        self._pixels = np.full((spec.height, spec.width, 3), round(spec.pad), np.uint8)
        self._planes = [np.empty((spec.height, spec.width), np.uint8) for _ in range(3)]
        # OpenCV's channels in the tensor's order, with factor and summand of each.
        order = (0, 1, 2) if spec.bgr else (2, 1, 0)
        self._channels = [
            (channel, np.float32(1 / spec.std[place]), np.float32(-spec.mean[place] / spec.std[place]))
            for place, channel in enumerate(order)
        ]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The tensor's shape without its batch dimension."""
        return (3, self.spec.height, self.spec.width)

    def image(self, image: np.ndarray, tensor: np.ndarray) -> Placement:
        """Put a whole image into a tensor."""
        spec, (rows, columns) = self.spec, image.shape[:2]
        width, height, left, top = spec.width, spec.height, 0, 0
        if spec.fit != "stretch":
            scale = min(spec.width / columns, spec.height / rows)
            width, height = max(1, int(columns * scale + 0.5)), max(1, int(rows * scale + 0.5))
            self._pixels[:] = round(spec.pad)
        if spec.fit == "letterbox":
            left, top = (spec.width - width) // 2, (spec.height - height) // 2
        if (columns, rows) == (spec.width, spec.height):
            self._normalise(image, tensor)
        else:
            inner = self._pixels[top : top + height, left : left + width]
            cv2.resize(image, (width, height), dst=inner, interpolation=cv2.INTER_LINEAR)
            self._normalise(self._pixels, tensor)
        return Placement(width / columns, height / rows, left, top, columns, rows)

    def crop(self, image: np.ndarray, box: tuple[float, float, float, float], tensor: np.ndarray) -> None:
        """Put the crop around a detection's box into a tensor. Beyond the image its edge's pixels go on."""
        spec = self.spec
        across, down = box[2] - box[0], box[3] - box[1]
        if spec.crop == "square":
            across = down = max(across, down)
        across, down = across * (1 + 2 * spec.margin), down * (1 + 2 * spec.margin)
        step_x, step_y = across / spec.width, down / spec.height
        first_x, first_y = (box[0] + box[2] - across) / 2, (box[1] + box[3] - down) / 2
        to_source = np.array([
            [step_x, 0, first_x + step_x / 2 - 0.5],
            [0, step_y, first_y + step_y / 2 - 0.5],
        ])
        cv2.warpAffine(
            image,
            to_source,
            (spec.width, spec.height),
            dst=self._pixels,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        self._normalise(self._pixels, tensor)

    def _normalise(self, pixels: np.ndarray, tensor: np.ndarray) -> None:
        cv2.split(pixels, self._planes)
        for plane, (channel, factor, summand) in zip(tensor, self._channels, strict=True):
            if tensor.dtype == np.uint8:
                plane[:] = self._planes[channel]
            else:
                np.multiply(self._planes[channel], factor, out=plane, dtype=np.float32)
                if summand:
                    np.add(plane, summand, out=plane)
