"""What a request to stop does while long work is under way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_stop_request(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `handler` (number, frame); outside of the main thread, where signals are the
    application's affair, they stay as they are."""
    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
