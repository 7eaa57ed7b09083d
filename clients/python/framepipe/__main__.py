"""`python -m framepipe push DIR|FILES`: pushes images and prints their results."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .client import Client
from .errors import FramepipeError, InvalidRequest
from .images import HOLDS
from .records import FrameResult

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
BATCH = 64
EXAMPLES = """examples:
  python -m framepipe push photos/
  python -m framepipe push a.jpg b.jpg --hold copy
  python -m framepipe push photos/ --upload --server inference-host:50051 --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every image has a result; 1: some have errors; 2: the server or the command failed."""
    options = _parser().parse_args(arguments)
    try:
        return _push(options)
    except (FramepipeError, OSError) as error:
        print(f"framepipe: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m framepipe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    push = commands.add_parser(
        "push",
        help="push images and print their results",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("paths", nargs="+", type=Path, metavar="DIR|FILE", help="images, or folders of them")
    push.add_argument("--server", default="localhost:50051", help="host:port or unix:/path (%(default)s)")
    push.add_argument("--stream", help="the stream that takes the results; without it the server makes one")
    push.add_argument("--inbox", help="the server's inbox directory ($FRAMEPIPE_INBOX)")
    push.add_argument(
        "--hold",
        choices=HOLDS,
        help="who keeps the images until their results come: this command, in the inbox (reference, the default), "
        "or the server, which copies them before it answers (copy)",
    )
    push.add_argument(
        "--upload",
        action="store_true",
        help="send the images with the call, to a server on another host, which keeps them; needs no inbox",
    )
    push.add_argument("--deadline-ms", type=int, default=0, help="answer late frames with an error instead")
    push.add_argument("--json", action="store_true", help="print one JSON object a result")
    return parser


def _push(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    paths = [path for given in options.paths for path in _images(given)]
    failed = 0
    with Client(options.server, options.stream, inbox=options.inbox) as client:
        client.wait_ready(10)
        for begin in range(0, len(paths), BATCH):
            chunk = paths[begin : begin + BATCH]
            names = [str(path)[-255:] for path in chunk]
            if options.upload:
                client.upload(chunk, names=names, deadline_ms=options.deadline_ms, wait=60)
            else:
                hold = options.hold or "reference"
                client.push(chunk, names=names, deadline_ms=options.deadline_ms, wait=60, hold=hold)
            for result in client.results(until_drained=True):
                failed += result.error is not None
                print(json.dumps(dataclasses.asdict(result)) if options.json else _line(result), flush=True)
    return 1 if failed else 0


def _refuse_contradictions(options: argparse.Namespace) -> None:
    if options.upload and options.hold:
        raise InvalidRequest(f"--upload with --hold {options.hold}: the server keeps what is uploaded; leave one out")
    if options.upload and options.inbox:
        raise InvalidRequest(f"--upload with --inbox {options.inbox}: an upload makes no file; leave one out")


def _images(given: Path) -> list[Path]:
    if given.is_dir():
        return sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES)
    return [given]


def _line(result: FrameResult) -> str:
    if result.error:
        return f"{result.name}: {result.error}"
    found = [
        f"{d.label} {d.score:.2f} [{', '.join(f'{side:.0f}' for side in d.box)}]"
        + "".join(f" {name}={a.value}" for name, a in d.attributes.items() if not isinstance(a.value, tuple))
        for d in result.detections
    ]
    return f"{result.name}: {'; '.join(found) or 'nothing found'}"


if __name__ == "__main__":
    sys.exit(main())
