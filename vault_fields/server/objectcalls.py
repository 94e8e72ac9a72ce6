"""The calls for stored objects."""

from typing import Any

from vault_fields.embedded.objects.values import ObjectMetadata, StoredObject
from vault_fields.exceptions import ValueRefused
from vault_fields.server import queries
from vault_fields.server.bodies import Rejected, text_field
from vault_fields.server.calls import Answer, Call, key_context

__all__ = ["create", "delete", "describe", "page", "read", "read_by_name", "update", "versions"]


def create(call: Call) -> Answer:
    body = call.body()
    name, value = text_field(body, "name"), text_field(body, "value")
    return Answer(_metadata(call.objects.create(name, value, key_context(body, "key_context"))), 201)


def read(call: Call) -> Answer:
    return _with_value(call.objects.read(call.path["id"]))


def read_by_name(call: Call) -> Answer:
    return _with_value(call.objects.read_by_name(call.path["name"]))


def describe(call: Call) -> Answer:
    return Answer(_without_value(call.objects.describe(call.path["id"])))


def update(call: Call) -> Answer:
    body = call.body()
    version_check = None if body.get("version_check") is None else text_field(body, "version_check")
    try:
        metadata = call.objects.update(call.path["id"], text_field(body, "value"), version_check=version_check)
    except ValueRefused as error:
        # The contract has no 422 here.
        raise Rejected(400, str(error)) from None
    return Answer(_without_value(metadata), 201)


def delete(call: Call) -> Answer:
    name = call.objects.delete(call.path["id"], version_check=call.request.GET.get("version_check"))
    return Answer({"success": True, "name": name})


def page(call: Call) -> Answer:
    found = call.objects.page(
        queries.search(call.request),
        limit=queries.limit(call.request),
        after=queries.cursor(call.request, "after"),
        before=queries.cursor(call.request, "before"),
        descending=queries.choice(call.request, "order", ("asc", "desc"), "desc") == "desc",
    )
    return Answer(
        {
            "data": [{"id": each.id, "name": each.name, "updated_at": each.updated_at} for each in found.items],
            "list_metadata": {"before": found.before, "after": found.after},
        }
    )


def versions(call: Call) -> Answer:
    found = [
        {
            "id": each.id,
            "created_at": each.created_at,
            "current_version": each.current,
            "size": each.size,
            "etag": each.etag,
        }
        for each in call.objects.versions(call.path["id"])
    ]
    return Answer({"data": found, "list_metadata": {"before": None, "after": None}})


def _with_value(found: StoredObject) -> Answer:
    return Answer({**_without_value(found.metadata), "value": found.value})


def _without_value(metadata: ObjectMetadata) -> dict[str, Any]:
    return {"id": metadata.id, "name": metadata.name, "metadata": _metadata(metadata)}


def _metadata(metadata: ObjectMetadata) -> dict[str, Any]:
    return {
        "id": metadata.id,
        "environment_id": metadata.environment,
        "context": dict(metadata.context),
        "key_id": metadata.key_id,
        "version_id": metadata.version_id,
        "updated_by": {"id": metadata.updated_by.id, "name": metadata.updated_by.name},
        "updated_at": metadata.updated_at,
    }
