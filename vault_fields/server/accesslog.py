"""The access log: one line of JSON for each request, with nothing in it that is secret."""

import json
import logging

from vault_fields.server.apikeys import ApiKey

__all__ = ["METHODS", "log_access"]

logger = logging.getLogger("vault_fields.server.access")

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def log_access(
    *, request_id: str, method: str | None, template: str, key: ApiKey | None, status: int, seconds: float
) -> None:
    """Log a request by its ``template`` and not its path: names of objects, and query strings, are private."""
    if not logger.isEnabledFor(logging.INFO):
        return
    record = {
        "request_id": request_id,
        "method": method if method in METHODS else "other",
        "path": template,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "environment": key and key.environment,
        "key": key and key.name,
    }
    logger.info(json.dumps(record, ensure_ascii=False), extra={"access": record})
