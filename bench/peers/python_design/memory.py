"""Where a frame's arrays lie while it goes from stage to stage: the two variants.

A stage asks for an array to read (`encoded`, `image`, `tensor`, `outputs`) or to write (`new_…`), and hands what it has
written to `sent`. In the variant `queues` arrays travel in the frame; in `shm` they lie in the frame's slot.
"""

from dataclasses import dataclass
from math import prod
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from peers.python_design.frame import Frame

_ALIGNMENT = 4096


@dataclass(frozen=True)
class Layout:
    """The arrays of one frame. `image_bytes` is 0 where no stage needs the image after its tensor."""

    encoded_bytes: int
    image_bytes: int
    tensor_shape: tuple[int, ...]
    tensor_dtype: str
    output_shapes: tuple[tuple[int, ...], ...]

    def tensor_bytes(self) -> int:
        """Size of the tensor."""
        return prod(self.tensor_shape) * np.dtype(self.tensor_dtype).itemsize

    def slot_bytes(self) -> int:
        """Size of a frame's slot."""
        return sum(self._sizes())

    def offsets(self) -> list[int]:
        """Where encoded bytes, image, tensor and outputs begin in a slot."""
        sizes = self._sizes()
        return [sum(sizes[:place]) for place in range(len(sizes))]

    def _sizes(self) -> list[int]:
        outputs = (4 * prod(shape) for shape in self.output_shapes)
        sizes = (self.encoded_bytes, self.image_bytes, self.tensor_bytes(), *outputs)
        return [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]


class Arrays:
    """The variant `queues`."""

    def __init__(self, layout: Layout) -> None:
        """Keep the layout: arrays are made one by one."""
        self._layout = layout

    def new_encoded(self, frame: Frame) -> np.ndarray:
        """Return room for the encoded image."""
        return np.empty(frame.source.size, np.uint8)

    def new_tensor(self, frame: Frame) -> np.ndarray:
        """Return room for the tensor."""
        return np.empty(self._layout.tensor_shape, self._layout.tensor_dtype)

    def keep_image(self, frame: Frame, image: np.ndarray) -> None:
        """Keep nothing: the encoded image travels on, and is decoded again for the crops."""

    def encoded(self, frame: Frame) -> np.ndarray:
        """Return the encoded image."""
        return frame.arrays[-1]

    def image(self, frame: Frame) -> np.ndarray | None:
        """Return nothing: the image is not kept."""
        return None

    def tensor(self, frame: Frame) -> np.ndarray:
        """Return the tensor."""
        return frame.arrays[0]

    def outputs(self, frame: Frame) -> list[np.ndarray]:
        """Return what the detector put out."""
        return list(frame.arrays[: len(self._layout.output_shapes)])

    def sent(self, frame: Frame, *arrays: np.ndarray, **changes: object) -> Frame:
        """Return the frame with new arrays for the next stage; the encoded one goes along where crops need it."""
        if self._layout.image_bytes and frame.arrays:
            arrays = (*arrays, frame.arrays[-1])
        return frame._replace(arrays=arrays, **changes)


class Slots:
    """The variant `shm`: numpy views of one shared memory, made once."""

    def __init__(self, layout: Layout, shared: SharedMemory) -> None:
        """Make the views of all slots."""
        count = shared.size // layout.slot_bytes()
        self._shared = shared
        self._encoded, self._images, self._tensors, self._outputs = [], [], [], []
        for slot in range(count):
            encoded, image, tensor, *outputs = (slot * layout.slot_bytes() + start for start in layout.offsets())
            self._encoded.append(np.ndarray(layout.encoded_bytes, np.uint8, shared.buf, encoded))
            self._images.append(np.ndarray(layout.image_bytes, np.uint8, shared.buf, image))
            self._tensors.append(np.ndarray(layout.tensor_shape, layout.tensor_dtype, shared.buf, tensor))
            self._outputs.append([
                np.ndarray(shape, np.float32, shared.buf, start)
                for shape, start in zip(layout.output_shapes, outputs, strict=True)
            ])

    def new_encoded(self, frame: Frame) -> np.ndarray:
        """Return room for the encoded image."""
        room = self._encoded[frame.slot]
        if frame.source.size > len(room):
            raise ValueError(f"an image of {frame.source.size} bytes; a slot has {len(room)}")
        return room[: frame.source.size]

    def new_tensor(self, frame: Frame) -> np.ndarray:
        """Return room for the tensor."""
        return self._tensors[frame.slot]

    def keep_image(self, frame: Frame, image: np.ndarray) -> None:
        """Copy the decoded image to where the crops are made: OpenCV decodes into memory of its own alone."""
        room = self._images[frame.slot]
        if image.size > len(room):
            raise ValueError(f"a decoded image of {image.size} bytes; a slot has {len(room)}")
        room[: image.size].reshape(image.shape)[:] = image

    def encoded(self, frame: Frame) -> np.ndarray:
        """Return the encoded image."""
        return self._encoded[frame.slot][: frame.source.size]

    def image(self, frame: Frame) -> np.ndarray | None:
        """Return the decoded image."""
        _, _, _, _, width, height = frame.placement
        return self._images[frame.slot][: 3 * width * height].reshape(height, width, 3)

    def tensor(self, frame: Frame) -> np.ndarray:
        """Return the tensor."""
        return self._tensors[frame.slot]

    def outputs(self, frame: Frame) -> list[np.ndarray]:
        """Return what the detector put out, or room for it."""
        return self._outputs[frame.slot]

    def sent(self, frame: Frame, *arrays: np.ndarray, **changes: object) -> Frame:
        """Return the frame: its arrays are where the next stage looks for them."""
        return frame._replace(**changes) if changes else frame


Memory = Arrays | Slots
