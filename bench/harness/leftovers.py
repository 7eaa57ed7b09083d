"""What a killed peer leaves in /dev/shm: it goes when the session does, so that the next one has the memory."""

import re
import shutil
from pathlib import Path

SHM = Path("/dev/shm")


class Leftovers:
    """Knows what was there before a session; `pattern` is what names of the peer's look like."""

    def __init__(self, pattern: str) -> None:
        """Look at what is there."""
        self._pattern = re.compile(pattern)
        self._before = _names()

    def remove(self) -> list[str]:
        """Remove what came since, is named like the peer's and mapped by nobody; return the names."""
        left = {name for name in _names() - self._before if self._pattern.fullmatch(name)}
        left -= _mapped() if left else set()
        for name in left:
            path = SHM / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return sorted(left)


def _names() -> set[str]:
    return {path.name for path in SHM.iterdir()}


def _mapped() -> set[str]:
    """Return the names in /dev/shm of which some process maps something."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            found |= set(re.findall(r" /dev/shm/([^/\n]+)", maps.read_text()))
        except OSError:  # it ended
            continue
    return found
