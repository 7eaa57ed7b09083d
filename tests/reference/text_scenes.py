"""Pictures of lines of text, some of them upside down: what the pipeline `text` must read.

    text_scenes.py --out FOLDER
    text_scenes.py --picture FILE

--out writes FOLDER/scene-N.png and FOLDER/scenes.json, a list of {"file", "lines": [{"text", "upside_down", "box":
[x0, y0, x1, y1]}]}, boxes in pixels. --picture writes the demo's picture: signs, two of which hang upside down.

The font is the one inside Pillow (Aileron Regular, CC0), so that no font need be installed. All draws are seeded.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1280, 720
LINES_A_SCENE = 6
SIZES = 20, 64
LINES = """STOP|ONE WAY|Hello world|framepipe|EXIT 24|Gate B12|Platform 7|No parking|SPEED LIMIT 50|2026-11-25
Main Street|Open 9-17|SALE 30%|Order #48213|Coffee & Tea|Fragile|This side up|Lot 7734-A|Made in Europe|Emergency
Push to open|Total: 128.50|Ticket 00917|Berlin Hbf|Madrid Atocha|Zone 30|Bus lane|Taxi|Hotel Central|Room 1204|Danger
High voltage|Quality control|Batch 20261125|Serial X9K-44|Net 500 g|Best before 2027|Pharmacy|Police|Library
Museum|Airport|Ferry terminal|Caution wet floor|Keep left|Dead end|km 142|GR-4821|B 7040 QX|Meeting point|Lost and found
Restrooms|Information|Please wait here|The quick brown fox jumps|over the lazy dog|Pack my box with
five dozen liquor jugs|Sphinx of black quartz|judge my vow""".replace("\n", "|").split("|")
# Text, size, board, letters, upside down.
SIGNS = [
    ("Platform 7", 54, (16, 56, 120), (255, 255, 255), False),
    ("Hamburg 14:25", 44, (24, 24, 24), (255, 196, 0), False),
    ("This side up", 48, (200, 160, 110), (40, 24, 8), True),
    ("EXIT", 60, (0, 110, 60), (255, 255, 255), False),
    ("Caution wet floor", 40, (250, 210, 0), (0, 0, 0), False),
    ("Lot 7734-A", 40, (200, 160, 110), (40, 24, 8), True),
]


def board(text: str, size: int, ground: tuple, letters: tuple, upside_down: bool) -> tuple[Image.Image, tuple]:
    """Return a board with a line on it, and the line's box in its pixels."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = size // 3
    image = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), ground)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=letters)
    if upside_down:
        image = image.transpose(Image.Transpose.ROTATE_180)
    return image, (margin, margin, image.width - margin, image.height - margin)


def scene(number: int) -> tuple[Image.Image, list[dict]]:
    """Return a picture of some of the lines, every other one upside down, and what it shows."""
    rng = random.Random(number)
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.randrange(150, 256) for _ in range(3)))
    lines, pitch = [], HEIGHT // LINES_A_SCENE
    for row in range(LINES_A_SCENE):
        text = LINES[(number * LINES_A_SCENE + row) % len(LINES)]
        dark, light = (tuple(rng.randrange(*levels) for _ in range(3)) for levels in ((0, 90), (190, 256)))
        colours = (dark, light) if rng.random() < 0.3 else (image.getpixel((0, 0)), dark)
        upside_down = (number + row) % 2 == 1
        placed, (x0, y0, x1, y1) = board(text, rng.randrange(*SIZES), *colours, upside_down)
        x = rng.randrange(10, WIDTH - placed.width - 10)
        y = row * pitch + rng.randrange(0, pitch - placed.height + 1)
        image.paste(placed, (x, y))
        lines.append({"text": text, "upside_down": upside_down, "box": [x + x0, y + y0, x + x1, y + y1]})
    return image, lines


def picture() -> Image.Image:
    """Return a wall of signs."""
    image = Image.new("RGB", (960, 540), (188, 190, 184))
    for index, sign in enumerate(SIGNS):
        placed, _ = board(*sign)
        image.paste(placed, (60 + index % 2 * 460, 50 + index // 2 * 165))
    return image


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="a folder")
    what.add_argument("--picture", type=Path, help="a PNG file")
    arguments = parser.parse_args()
    if arguments.picture:
        picture().save(arguments.picture)
        return
    scenes = []
    for number in range(len(LINES) // LINES_A_SCENE):
        image, lines = scene(number)
        image.save(arguments.out / f"scene-{number}.png")
        scenes.append({"file": f"scene-{number}.png", "lines": lines})
    (arguments.out / "scenes.json").write_text(json.dumps(scenes))


if __name__ == "__main__":
    main()
