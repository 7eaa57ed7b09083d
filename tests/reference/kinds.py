"""Raw outputs of every kind of attribute, and the values that they mean: what the product's are compared with.

    kinds.py --out FOLDER

Writes FOLDER/manifest.toml, FOLDER/charset.txt and FOLDER/cases.json, a list of {"output", "numbers", "value"}: the
value as reference.py writes it, "classes" (label and score) or "points" ([x, y, score]). The draws are seeded.
"""

import argparse
import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
from attributes import attribute_value

WIDTH, HEIGHT = 48, 64
RECT = 10.0, 20.0, 110.0, 220.0
CHARSET = ["a", "b", "é", "字", " ", "7"]
CHARSET_TEXT = "".join(f"{character}\n" for character in CHARSET)
SUM = hashlib.sha256(CHARSET_TEXT.encode()).hexdigest()
STEPS = 9
DRAW_COUNT = 40

MANIFEST = f"""name = "kinds"
version = 1
file = "model.onnx"
sha256 = "{"0" * 64}"
source = "drawn"
licence = "none"
description = "raw outputs without a model"

[input]
tensor = "crop"
graph = [
    {{ op = "crop", detection = "box" }},
    {{ op = "resize", fit = "stretch", width = {WIDTH}, height = {HEIGHT} }},
    {{ op = "layout", order = "nchw" }},
]

[attributes]
applies_to = ["person"]
"""

LABELS = '["hat", "coat", "scarf", "bag", "none"]'
# By the output's name: its kind, how many numbers it has, and whether they are scores.
KINDS = {
    "softmax": (f'class = {{ activation = "softmax", labels = {LABELS} }}', 5, False),
    "sigmoid": (f'class = {{ activation = "sigmoid", labels = {LABELS} }}', 5, False),
    "done": (f'class = {{ activation = "none", labels = {LABELS} }}', 5, True),
    "top-3": (
        f'classes = {{ activation = "softmax", labels = {LABELS}, score_threshold = 0.0, classes_max = 3 }}',
        5,
        False,
    ),
    "multi-label": (
        f'classes = {{ activation = "sigmoid", labels = {LABELS}, score_threshold = 0.5, classes_max = 5 }}',
        5,
        False,
    ),
    "multi-label-done": (
        f'classes = {{ activation = "none", labels = {LABELS}, score_threshold = 0.3, classes_max = 2 }}',
        5,
        True,
    ),
    "binary": ('binary = { labels = ["no", "yes"] }', 1, True),
    "quantity": ("number = { scale = 100.0, offset = -7.5 }", 1, False),
    "binned": ("expectation = { first = 0.0, step = 1.0 }", 101, True),
    "binned-logits": ('expectation = { first = -90.0, step = 3.0, activation = "softmax" }', 60, False),
    "embedding": ("vector = { normalize = true }", 128, False),
    "points": ('keypoints = { names = ["a", "b", "c"], normalized = true, activation = "sigmoid" }', 9, False),
    "points-in-pixels": ('keypoints = { names = ["a", "b"], normalized = false }', 4, False),
    "points-done": ('keypoints = { names = ["a", "b"], normalized = false, activation = "none" }', 6, True),
    "text": (
        f'ctc_text = {{ activation = "softmax", charset = "charset.txt", charset_sha256 = "{SUM}", blank = 0 }}',
        STEPS * 7,
        False,
    ),
    "text-done": (
        f'ctc_text = {{ activation = "none", charset = "charset.txt", charset_sha256 = "{SUM}", blank = 6 }}',
        STEPS * 7,
        True,
    ),
}


def draw(rng: np.random.Generator, index: int, count: int, are_scores: bool) -> np.ndarray:
    """Return an output's numbers: plain ones, ones with ties, huge ones."""
    numbers = rng.uniform(0, 1, count) if are_scores else rng.normal(0, 4, count)
    match index % 4:
        case 1:
            numbers = np.round(numbers)
        case 2:
            numbers = np.where(rng.random(count) < 0.3, rng.choice([-1000.0, 1000.0], count), numbers)
        case 3 if index == 3:
            numbers = np.zeros(count)
    return numbers.astype(np.float32)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    folder = parser.parse_args().out
    text, cases = MANIFEST, []
    for number, (name, (kind, count, are_scores)) in enumerate(KINDS.items()):
        text += f'[[attributes.outputs]]\ntensor = "{name}"\nname = "{name}"\nkind = {{ {kind} }}\n'
        rng = np.random.default_rng(number)
        for index in range(DRAW_COUNT):
            numbers = draw(rng, index, count, are_scores)
            value = attribute_value(tomllib.loads(kind), numbers, RECT, (WIDTH, HEIGHT), CHARSET)
            cases.append({"output": name, "numbers": numbers.tolist(), "value": value})
    (folder / "manifest.toml").write_text(text)
    (folder / "charset.txt").write_text(CHARSET_TEXT)
    (folder / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
