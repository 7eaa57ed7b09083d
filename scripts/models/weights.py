"""TensorFlow.js weight manifests: JSON that describes tensors packed end to end in binary shards.

Both model families (tfjs graph models and face-api nets) store their weights this way. A tensor may
be quantised for transport: as float16, or as integers with `value = stored * scale + min`.
"""

from pathlib import Path

import numpy as np

STORED_TYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}


def read_weights(groups: list[dict], folder: Path) -> dict[str, np.ndarray]:
    """Return every tensor of a manifest's groups by name, as float32, int32 or bool."""
    tensors = {}
    for group in groups:
        shards = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            tensor, offset = _read_tensor(entry, shards, offset)
            tensors[entry["name"]] = tensor
        if offset != len(shards):
            raise ValueError(
                f"{folder}: the manifest describes {offset} bytes, the shards {group['paths']} "
                f"hold {len(shards)}: the download is damaged or of another version"
            )
    return tensors


def _read_tensor(entry: dict, shards: bytes, offset: int) -> tuple[np.ndarray, int]:
    """Return one tensor and the offset behind it."""
    shape = entry["shape"]
    count = int(np.prod(shape))
    wanted = STORED_TYPES[entry["dtype"]]
    packing = entry.get("quantization")
    stored = np.dtype(packing["dtype"]) if packing else np.dtype(wanted)
    values = np.frombuffer(shards, stored, count, offset)
    if packing and stored != np.float16:
        values = values.astype(np.float32) * np.float32(packing["scale"])
        values = values + np.float32(packing["min"])
        if wanted == np.int32:
            values = np.rint(values)
    return values.astype(wanted).reshape(shape), offset + count * stored.itemsize
