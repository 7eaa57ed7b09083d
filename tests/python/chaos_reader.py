"""Reads a stream for scripts/chaos: one JSON line a result, flushed before the next result is asked for.

A result is acknowledged when the next one is asked for, so that what a kill cut off comes again.
"""

import json
import sys
import time

import framepipe


def main() -> None:
    """Read until this process is killed."""
    address, stream = sys.argv[1:]
    with framepipe.Client(address, stream=stream, reconnect_s=120) as client:
        while True:
            try:
                for result in client.results():
                    line = {
                        "sequence": result.sequence,
                        "frame": result.frame,
                        "name": result.name,
                        "size": result.image_size,
                        "error": result.error and f"{result.error.code}: {result.error.message}",
                    }
                    print(json.dumps(line), flush=True)
            except framepipe.NotFound:
                time.sleep(0.05)  # nobody has pushed to it yet


if __name__ == "__main__":
    main()
