"""Writes frames of a video as JPEGs, enlarged, spread evenly over it: what a camera of more pixels would have sent.

Usage: video_frames.py VIDEO FOLDER COUNT FACTOR
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

QUALITY = 90


def main() -> None:
    """Write FOLDER/000.jpg and so on."""
    video, folder, count, factor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    capture = cv2.VideoCapture(str(video))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if total < count:
        sys.exit(f"{video} has {total} frames, and {count} are wanted")
    wanted = {number * total // count for number in range(count)}
    written = 0
    for number in range(total):
        read, frame = capture.read()
        if not read:
            sys.exit(f"{video}: frame {number} of {total} cannot be read")
        if number not in wanted:
            continue
        frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{written:03}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        written += 1


if __name__ == "__main__":
    main()
