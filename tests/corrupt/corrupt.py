"""Drives scripts/corrupt: corrupts, lets framepipe decode, and holds the pixels to those of other libraries."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from bad_images import bad_images
from bases import bases
from corruptions import corrupted, truncations
from decoder import ROOT, Decoder, DecoderFailedError
from references import REFERENCES, quiet

PHOTO = ROOT / "photos" / "sample6.jpg"
KEPT = ROOT / "build" / "corrupt"
# Between two looks whether a whole image still has its pixels.
CASES_A_LOOK = 16
# Levels by which the pixels of a BMP of 16 bits may differ: framepipe rounds 5 bits to 8, Pillow cuts, OpenCV shifts.
BMP_16_BITS_LEVELS = 7
FAULTS_SHOWN_MAX = 40


def main() -> int:
    """Run all cases, print the counts, and say whether there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.iterdir():
        old.unlink()
    photo = PHOTO.read_bytes()
    run = Run()
    named = bad_images(photo)
    run.cases("bad images", named, [photo])
    for name, files in bases(photo).items():
        run.cases(name, numbered(iter(files)), files)
        run.check_all_decoded(name)
        run.cases(f"{name}, cut", numbered(cut for base in files for cut in truncations(base)), files)
        seeds = (f"{arguments.seed}/{name}/{number}" for number in range(arguments.count))
        run.cases(f"{name}, random", numbered(corrupted(name, files, seed) for seed in seeds), files)
    run.decoder.close()
    run.report()
    return 1 if run.faults else 0


def numbered(cases: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Give cases their numbers for names."""
    return ((str(number), case) for number, case in enumerate(cases))


class Run:
    """The decoder, and what became of the cases."""

    def __init__(self) -> None:
        """Begin without any."""
        self.decoder = Decoder()
        self.counts: dict[str, Counter[str]] = {}
        self.faults = 0
        self.cpu_s_max = 0.0

    def cases(self, kind: str, cases: Iterator[tuple[str, bytes]], neighbours: list[bytes]) -> None:
        """Run the cases of one kind; between them, whole images must keep their pixels."""
        counts = self.counts.setdefault(kind, Counter())
        before = [self.decoder.decode(neighbour).pixels for neighbour in neighbours]
        for number, (name, data) in enumerate(cases):
            counts["cases"] += 1
            try:
                counts[self.judged(data)] += 1
                if number % CASES_A_LOOK == 0:
                    self.look(neighbours, before, number // CASES_A_LOOK)
            except DecoderFailedError as fault:
                self.faults += 1
                counts["FAULT"] += 1
                path = KEPT / f"{kind}-{name}".replace(", ", "-").replace(" ", "-")
                path.write_bytes(data)
                if self.faults <= FAULTS_SHOWN_MAX:
                    print(f"corrupt: {path}: {fault}", file=sys.stderr)

    def judged(self, data: bytes) -> str:
        """Say what became of a case: a reference with the same pixels, or the error's code."""
        answer = self.decoder.decode(data)
        self.cpu_s_max = max(self.cpu_s_max, answer.cpu_s)
        if answer.pixels is None:
            return answer.code
        levels = BMP_16_BITS_LEVELS if data[:2] == b"BM" and data[28] == 16 else 0
        differences = {}
        for name, decode in REFERENCES.items():
            with quiet():
                pixels = decode(data)
            differences[name] = difference(answer.pixels, pixels)
            if differences[name] in range(levels + 1):
                return f"pixels of {name}"
        raise DecoderFailedError(f"{answer.pixels.shape} pixels that nobody else gives: differences {differences}")

    def look(self, neighbours: list[bytes], before: list[np.ndarray], number: int) -> None:
        """See that a whole image still has the pixels that it had first."""
        number %= len(neighbours)
        after = self.decoder.decode(neighbours[number]).pixels
        if after is None or not np.array_equal(after, before[number]):
            raise DecoderFailedError(f"after it, whole image {number} of the format has other pixels")

    def check_all_decoded(self, kind: str) -> None:
        """See that no case of a kind was an error."""
        counts = self.counts[kind]
        errors = counts["cases"] - sum(count for column, count in counts.items() if column.startswith("pixels"))
        if errors:
            self.faults += 1
            print(f"corrupt: {kind}: {errors} whole files are errors", file=sys.stderr)

    def report(self) -> None:
        """Print the counts as a table."""
        columns = ["cases", *(f"pixels of {name}" for name in REFERENCES)]
        columns += sorted({column for counts in self.counts.values() for column in counts} - set(columns))
        print("| | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for kind, counts in self.counts.items():
            print(f"| {kind} | " + " | ".join(str(counts[column]) for column in columns) + " |")
        print(f"\nThe longest took {self.cpu_s_max:.2f} s of CPU time; {self.faults} faults.")


def difference(pixels: np.ndarray, reference: np.ndarray | None) -> int | str:
    """Return by how many levels the farthest pixel differs."""
    if reference is None:
        return "no image"
    if pixels.shape != reference.shape:
        return f"another size, {reference.shape}"
    return int(np.abs(pixels.astype(np.int16) - reference).max())


if __name__ == "__main__":
    sys.exit(main())
