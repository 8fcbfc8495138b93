"""Errors of TensorBoard's files of events, which a thread writes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_writers() -> Iterator[None]:
    """TensorBoard's threads hand their errors to the next one who writes, who tells: no traceback beside that."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
