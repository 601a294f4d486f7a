"""The server's log: one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOG = logging.getLogger("hybridstitch.serving.http")


def log(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """A line that says what happened, with fields of its own."""
    LOG.log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Time, level and event, then the line's own fields; of an exception its traceback, in one field."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_as_json() -> None:
    """Write this process's log to stderr: ours, and of other libraries what is a warning or worse."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("hybridstitch").setLevel(logging.INFO)
