"""One JSON object a line on stderr, whatever wrote it: our log, a library's, a warning, or a bare print."""

import io
import json
import logging
import sys
import threading
from typing import Any, TextIO

_FIELDS = ("job", "passes", "stopped", "worker", "models", "orders", "request_id", "status")


def as_json(level: str) -> None:
    """Logs as JSON to what is stderr now; what is written to stdout and stderr from now on is logged too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # or a log that cannot be written would be written about, for ever
    descriptor = sys.stderr.fileno()
    sys.stdout = _Logged("stdout", logging.INFO, descriptor)
    sys.stderr = _Logged("stderr", logging.WARNING, descriptor)


def gather() -> None:
    """Takes their own handlers from libraries that were imported, so that their records come to ours, once."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            for handler in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
                logger.removeHandler(handler)
                logger.propagate = True


class _JsonLines(logging.Formatter):
    """One JSON object a line; never an input."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Logged(io.TextIOBase, TextIO):
    """A stream whose lines are log records; of a progress bar's line only its last state is."""

    def __init__(self, name: str, level: int, descriptor: int) -> None:
        self._log, self._level, self._descriptor = logging.getLogger(name), level, descriptor
        self._begun, self._writing = "", threading.RLock()

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._writing:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if shown := line.rstrip("\r").rpartition("\r")[2].rstrip():
                self._log.log(self._level, "%s", shown)
        return len(text)
