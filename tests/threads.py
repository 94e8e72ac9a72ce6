"""Threads that another one starts."""

import threading
import time


def join(thread: threading.Thread) -> None:
    """Wait for its end, up to a minute, also where it is just being started and cannot be joined yet."""
    while True:
        try:
            thread.join(60)
        except RuntimeError:
            time.sleep(0.01)
        else:
            return
