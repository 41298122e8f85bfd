"""The disk: bytes that are there as a whole, or not at all. Blocking: not for the event loop."""

import contextlib
import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600


def write_all(descriptor: int, data: bytes) -> None:
    """Write bytes, in as many pieces as the system takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def append(descriptor: int, data: bytes) -> None:
    """Append bytes to an open file and wait until the disk has them.

    Raises OSError, with the file as it was; where even that fails it is longer than before.
    """
    size = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, data)
        os.fdatasync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def append_to(path: Path, data: bytes) -> None:
    """Append bytes to a private file, which is made where there is none. Raises OSError, as `append` does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
    try:
        append(descriptor, data)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a private file as a whole, once the disk has its new content. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
