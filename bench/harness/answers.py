"""Whether a peer finds what is there: numbers of detections, beside those of framepipe's reference implementation.

Peers decode and scale in different ways, so a box whose score lies at the threshold may come or go.
"""

IMAGE_TOLERANCE = 1
PART_TOLERANCE = 0.25
"""An image may have so many detections more or less than the reference finds, or this part; a mean this part."""


def fault_of_images(found: list[int], expected: list[int]) -> str:
    """Return what is wrong with the detections of each image; nothing, where nothing is."""
    if len(found) == len(expected) and all(map(_is_near, found, expected)):
        return ""
    return f"finds {found} detections in the images, where the reference finds {expected}"


def fault_of_mean(mean: float, expected: list[int]) -> str:
    """Return what is wrong with a measure's detections a frame."""
    wanted = sum(expected) / len(expected)
    if abs(mean - wanted) <= PART_TOLERANCE * wanted:
        return ""
    return f"found {mean:.2f} detections a frame, where the reference finds {wanted:.2f}"


def _is_near(found: int, expected: int) -> bool:
    if not expected or not found:
        return found == expected
    return abs(found - expected) <= max(IMAGE_TOLERANCE, PART_TOLERANCE * expected)
