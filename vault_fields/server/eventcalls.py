"""The call for events, as the platform's ``GET /events`` answers it."""

from vault_fields.embedded.events.log import UnknownCursor
from vault_fields.server import queries
from vault_fields.server.bodies import Rejected
from vault_fields.server.calls import Answer, Call

__all__ = ["page"]


def page(call: Call) -> Answer:
    query = call.request.GET
    names = [*query.getlist("events[]"), *",".join(query.getlist("events")).split(",")]
    try:
        found = call.vault.store.events.page(
            call.vault.environment,
            names=[name for name in names if name],
            limit=queries.limit(call.request),
            after=query.get("after"),
            before=query.get("before"),
            descending=queries.choice(call.request, "order", ("asc", "desc"), "asc") == "desc",
            since=queries.moment(call.request, "range_start"),
            until=queries.moment(call.request, "range_end"),
        )
    except UnknownCursor:
        raise Rejected(400, "after or before is not the id of an event.") from None
    return Answer(
        {
            "object": "list",
            "data": [event.as_json() for event in found.items],
            "list_metadata": {"before": found.before, "after": found.after},
        }
    )
