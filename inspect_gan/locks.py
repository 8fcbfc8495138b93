"""Exclusive use of files, which ends with the process however that ends."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from inspect_gan.errors import InspectGanError, writing

try:
    import fcntl
except ImportError:  # Windows has no locks that leave a file readable
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made if missing and stays.

    busy: the message of the InspectGanError when another process holds it; None waits for that process. Where the
    system or the file system has no locks nothing is held, and a warning says so. Raises InspectGanError when the file
    cannot be made.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            lock(file, wait=busy is None)
        except BlockingIOError:
            raise InspectGanError(str(busy)) from None
        except OSError as error:
            log.warning("%s: cannot be locked (%s); see to it that nothing else writes there", path, error.strerror)
        yield


def lock(file: IO, wait: bool = False) -> None:
    """Lock an open file until it is closed. Raises BlockingIOError when it is locked already and `wait` is off, OSError
    where there are no locks."""
    if not HAS_LOCKS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
