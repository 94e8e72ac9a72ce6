"""
Fields of other packages, each with a model like ``benchmarks.models.Plain``.

A package that is not installed is missing with its reason, and never left out in silence. django-tink-fields asks for
a Django below 6.1: the field here is a minimal one over the same library.
"""

from typing import Any, NamedTuple

from django.db import connection, models

from benchmarks.report import Missing

__all__ = ["Peer", "installed"]


class Peer(NamedTuple):
    name: str
    model: type[models.Model]
    # What a reader of the table must know.
    remark: str
    # How much slower than these fields it has to be.
    target: float


def installed() -> tuple[list[Peer], list[Missing]]:
    """The peers there are, their tables made, and those that are missing."""
    found, missing = [], []
    for name, target, make in (
        ("Fernet fields", 2.0, _fernet),
        ("django-cryptography", 2.4, _cryptography),
        ("Tink fields", 1.0, _tink),
    ):
        try:
            field, remark = make()
        except Exception as error:  # noqa: BLE001 - whatever a package fails with is its reason.
            missing.append(Missing(f"against {name}", f"{type(error).__name__}: {error}", is_peer=True))
            continue
        found.append(Peer(name, _model(name, field), remark, target))
    return found, missing


def _model(name: str, field: Any) -> type[models.Model]:
    attributes = {
        "__module__": __name__,
        "Meta": type("Meta", (), {"app_label": "benchmarks"}),
        "tenant": models.CharField(max_length=50),
        "ssn": field,
    }
    model = type(name.title().replace(" ", "").replace("-", ""), (models.Model,), attributes)
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


Made = tuple[Any, str]


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return f"{distribution} {version(distribution)}"


def _fernet() -> Made:
    from encrypted_fields.fields import EncryptedTextField

    return EncryptedTextField(), _version("django-fernet-encrypted-fields")


def _cryptography() -> Made:
    from django_cryptography.fields import encrypt

    return encrypt(models.TextField()), _version("django-cryptography-5")


def _tink() -> Made:
    import base64

    import tink
    from tink import aead

    aead.register()
    handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    primitive = handle.primitive(aead.Aead)

    class TinkField(models.TextField):  # type: ignore[type-arg]  # Not generic when it runs.
        """As django-tink-fields: the value is opened when a row is loaded."""

        def get_prep_value(self, value: Any) -> Any:
            return base64.b64encode(primitive.encrypt(value.encode(), b"")).decode()

        def from_db_value(self, value: Any, *args: Any) -> Any:
            return primitive.decrypt(base64.b64decode(value), b"").decode()

    return TinkField(), f"{_version('tink')}, a minimal field: django-tink-fields asks for Django below 6.1"
