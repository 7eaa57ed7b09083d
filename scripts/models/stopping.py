"""How Ctrl-C and SIGTERM end a program that changes nothing before its last moment."""

import os
import signal
import sys

STOPPED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _stop(*_) -> None:
    """End the program; what it cleans up on its way out is cleaned up whole."""
    too_late_to_stop()
    # Not by print, which the signal may have come in the midst of.
    os.write(2, b"quantize: stopped; nothing was changed\n")
    sys.exit(STOPPED)


def stop_when_told() -> None:
    """End at either signal from now on, at SIGINT too, which a shell's background would have ignored."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def too_late_to_stop() -> None:
    """Ignore both from now on; to block them would not do, since a library's threads would still take them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
