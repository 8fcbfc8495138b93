"""Tell a person what is being waited for, when it does not come."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 30.0

log = logging.getLogger(__name__)


@contextmanager
def patience(what: object) -> Iterator[None]:
    """For as long as the block lasts, a warning every PATIENCE_SECONDS that names `what` is waited for.

    Nothing is given up: a file on a network share that has stalled cannot be told from a slow one, and the system call
    that reads it can only be ended by whoever ends the process.
    """
    over = threading.Event()

    def watch() -> None:
        waited = 0.0
        while not over.wait(PATIENCE_SECONDS):
            waited += PATIENCE_SECONDS
            log.warning(
                "still waiting for %s after %.0f s: does its disk or network share answer? What is finished is kept; "
                "Ctrl-C stops",
                what,
                waited,
            )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
