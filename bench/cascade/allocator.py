"""glibc's malloc, told to keep large blocks: by default each decoded image is mapped anew, its pages cleared."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# glibc refuses a larger threshold for mmap.
_MMAP_THRESHOLD_BYTES = 32 << 20
_TRIM_THRESHOLD_BYTES = 512 << 20


def keep_large_blocks() -> None:
    """Let this process reuse the memory of large arrays."""
    libc = ctypes.CDLL(None)
    for parameter, value in ((_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES), (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)):
        if not libc.mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) was refused: this C library is not glibc")
