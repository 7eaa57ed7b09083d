"""The inbox: the tmpfs directory through which images reach the server.

The server makes the directory and owns its permissions. A blob holds the images of one push, one after another.
It appears under its name complete or not at all, is readable by a server of another user, and is never changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import BinaryIO

from .errors import InboxError

DEFAULT = "/dev/shm/framepipe-inbox"
_COPY_BYTES = 1 << 20
WHICH = "name the server's inbox with inbox= (--inbox) or $FRAMEPIPE_INBOX, or upload, which needs none"


def new_key() -> str:
    """128 random bits, in hexadecimal: a name that nobody else has."""
    return os.urandom(16).hex()


@dataclass(frozen=True)
class Blob:
    """The images of one push in one file of the inbox."""

    path: str
    sizes: list[int]

    def delete(self) -> None:
        """Removes the file; it is no error that it is gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Inbox:
    """Writes blobs. `path`: the argument, or else $FRAMEPIPE_INBOX, or else /dev/shm/framepipe-inbox."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.path.abspath(path or os.environ.get("FRAMEPIPE_INBOX") or DEFAULT)

    def write(self, sources: list[str | memoryview | bytes], stream: str | None) -> Blob:
        """Writes the sources (paths or bytes) as one blob, whose name begins with the stream's."""
        name = f"{stream or 'unnamed'}.{new_key()}"
        draft, final = os.path.join(self.path, f".{name}.part"), os.path.join(self.path, f"{name}.blob")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            file = os.fdopen(os.open(draft, flags, 0o600), "wb")
        except OSError as error:
            raise InboxError(self._explain(error)) from error
        try:
            with file:
                sizes = [_append(file, source) for source in sources]
                os.fchmod(file.fileno(), 0o644)
            os.rename(draft, final)
        except BaseException:
            os.unlink(draft)
            raise
        return Blob(final, sizes)

    def _explain(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError):
            return (
                f"the inbox {self.path} does not exist: the server makes it, so is it up on this host "
                f"(framepipe up --config FILE)? {WHICH}"
            )
        if isinstance(error, NotADirectoryError):
            return f"the inbox {self.path} is no folder: {WHICH}"
        return f"cannot write into the inbox {self.path}: {error.strerror}; its permissions are the server's. {WHICH}"


def _append(file: BinaryIO, source: str | memoryview | bytes) -> int:
    """Appends one image and returns its size in bytes."""
    begin = file.tell()
    if isinstance(source, str):
        with open(source, "rb") as image:
            shutil.copyfileobj(image, file, _COPY_BYTES)
    else:
        file.write(source)
    return file.tell() - begin
