"""Lines that a server writes: for people, or one JSON object each."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any
from urllib.parse import quote

from uvicorn.config import LOGGING_CONFIG

ACCESS = logging.getLogger("bottlenecks.access")
PLAIN = "/:.,@[]"  # that a field of a line may hold beside letters and digits
FIELDS = "fields"  # attribute of a record: what is more to it than its message


class JsonLines(logging.Formatter):
    """Writes a record as a JSON object: time, level, logger, message, and what more there is to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)


def log_config(form: str, access: bool) -> dict[str, Any]:
    """Return the configuration of logging, as `logging.config.dictConfig` takes it.

    Args:
        form: `text` or `json`.
        access: whether each request is a line.
    """
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["json"] = {"()": JsonLines}
    if form == "json":
        config["handlers"]["default"]["formatter"] = "json"
    config["loggers"][ACCESS.name] = {
        "handlers": ["default"],
        "level": "INFO" if access else "WARNING",
        "propagate": False,
    }
    return config


def log_request(**fields: Any) -> None:
    """Write a line on a request or a message of a session."""
    text = " ".join(f"{name}={quote(str(value), safe=PLAIN)}" for name, value in fields.items())
    ACCESS.info(text, extra={FIELDS: fields})
