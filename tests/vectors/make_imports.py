"""
Writes the vectors of imports: values as the libraries themselves encrypt them.

Run by hand, in an environment of its own with Django and one of the libraries. It needs nothing of this repository, and
the vectors name the versions that wrote them:

    python tests/vectors/make_imports.py django-fernet-fields-v2

For django-cryptography-5 it runs a second time with the further argument ``with-key``.
"""

import base64
import datetime as dt
import decimal
import importlib.metadata
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "imports"

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
SECRET = "the secret key of the old project"
TEXTS = ["123-45-6789", "", "الدكتور جرير 👩🏽‍⚕️", 'lines\nand "quotes" \' \\', "long " * 200]
NOW = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, dt.UTC)


def stored(value: Any) -> dict[str, str]:
    """What is in the column: text as it is, bytes in base64."""
    if isinstance(value, str):
        return {"text": value}
    return {"base64": base64.b64encode(bytes(value)).decode()}


def spelled(value: Any) -> Any:
    """The expected value in JSON: what JSON does not have as the name of its type and its text."""
    if value is None or isinstance(value, (str, int, float, bool, list, dict)):
        return value
    if isinstance(value, bytes):
        return {"type": "bytes", "text": base64.b64encode(value).decode()}
    return {"type": type(value).__name__, "text": str(value)}


def configure(**settings: Any) -> Any:
    """Configure Django, and return a connection as far as fields ask for one: for what makes bytes binary."""
    import django
    from django.conf import settings as django_settings

    django_settings.configure(SECRET_KEY=SECRET, DATABASES=DATABASES, USE_TZ=True, **settings)
    django.setup()
    from django.db import connection

    return connection


def saved(field: Any, value: Any, connection: Any) -> Any:
    return field.get_db_prep_save(value, connection=connection)


def django_cryptography() -> Iterator[tuple[str, dict, list]]:
    configured = {"CRYPTOGRAPHY_KEY": "the key of django-cryptography", "CRYPTOGRAPHY_SALT": "a salt of its own"}
    connection = configure(**(configured if "with-key" in sys.argv else {}))
    from django.db import models
    from django_cryptography.fields import encrypt

    values = [*TEXTS, 7, -(2**70), 1.5, True, False, decimal.Decimal("12.340"), NOW, NOW.date(), NOW.time()]
    values += [
        uuid.UUID(int=2**100 + 5),
        dt.timedelta(days=1, seconds=3),
        b"\x00\xff bytes",
        {"a": [1, None, "b"]},
    ]
    # The class of the field converts nothing here: a field of the base class pickles what it is given.
    plain = [(value, saved(encrypt(models.Field()), value, connection)) for value in values]
    settings = {"SECRET_KEY": SECRET} | (configured if "with-key" in sys.argv else {})
    yield ("-with-key" if "with-key" in sys.argv else ""), settings, plain
    if "with-key" in sys.argv:
        own = encrypt(models.TextField(), key=b"k" * 32)
        pairs = [(value, saved(own, value, connection)) for value in TEXTS]
        yield "-own-key", settings | {"OLD_FIELD_KEY": "k" * 32}, pairs
        foreign = encrypt(models.Field())
        yield "-code", settings, [(None, saved(foreign, Harmful(), connection))]


class Harmful:
    """A pickle that runs code as it is loaded."""

    def __reduce__(self) -> Any:
        return os.getenv, ("HOME",)


def django_fernet_encrypted_fields() -> Iterator[tuple[str, dict, list]]:
    settings = {"SALT_KEY": ["salt of today", "salt of yesterday"], "SECRET_KEY_FALLBACKS": ["an older secret"]}
    connection = configure(**settings)
    from django.conf import settings as live
    from encrypted_fields import fields

    def pairs(make: Any, values: list) -> list:
        return [(value, saved(make(), value, connection)) for value in values]

    # It stores NULL for the empty text.
    texts = [text for text in TEXTS if text]
    found = pairs(fields.EncryptedTextField, texts)
    found += [
        (str(value), saved(field(), value, connection))
        for field, value in (
            (fields.EncryptedIntegerField, 42),
            (fields.EncryptedDateField, NOW.date()),
            (fields.EncryptedFloatField, 1.5),
            (fields.EncryptedBooleanField, True),
        )
    ]
    live.SALT_KEY = "salt of yesterday"
    found += pairs(fields.EncryptedTextField, texts[:1])
    live.SECRET_KEY = "an older secret"
    found += pairs(fields.EncryptedTextField, texts[:1])
    yield "", {"SECRET_KEY": SECRET, **settings}, found
    live.SECRET_KEY, live.SALT_KEY = SECRET, settings["SALT_KEY"]
    document = {"name": "Ada", "visits": ["1", {"at": "home"}]}
    yield (
        "-json",
        {"SECRET_KEY": SECRET, **settings},
        [(document, fields.EncryptedJSONField().get_prep_value(document))],
    )


def django_fernet_fields_v2() -> Iterator[tuple[str, dict, list]]:
    settings = {"FERNET_KEYS": ["today's key", "yesterday's key"]}
    connection = configure(**settings)
    import fernet_fields as fields
    from django.conf import settings as live

    found = [(text, saved(fields.EncryptedTextField(), text, connection)) for text in TEXTS]
    found += [
        (str(value), saved(field(), value, connection))
        for field, value in (
            (fields.EncryptedIntegerField, 42),
            (fields.EncryptedDateField, NOW.date()),
        )
    ]
    live.FERNET_KEYS = ["yesterday's key"]
    found += [(TEXTS[0], saved(fields.EncryptedTextField(), TEXTS[0], connection))]
    yield "", settings, found
    live.FERNET_USE_HKDF = False
    live.FERNET_KEYS = [base64.urlsafe_b64encode(b"f" * 32).decode()]
    yield (
        "-no-hkdf",
        {"FERNET_KEYS": live.FERNET_KEYS, "FERNET_USE_HKDF": False},
        [(text, saved(fields.EncryptedTextField(), text, connection)) for text in TEXTS],
    )


def django_encrypted_model_fields() -> Iterator[tuple[str, dict, list]]:
    keys = [base64.urlsafe_b64encode(byte * 32).decode() for byte in (b"1", b"2")]
    connection = configure(FIELD_ENCRYPTION_KEY=keys)
    from cryptography.fernet import Fernet
    from encrypted_model_fields import fields

    found = [(text, saved(fields.EncryptedTextField(), text, connection)) for text in TEXTS]
    found += [
        (text, saved(field(), value, connection))
        for field, value, text in (
            (fields.EncryptedIntegerField, 42, "42"),
            (fields.EncryptedBooleanField, True, "1"),
            (fields.EncryptedDateField, NOW.date(), "2024-02-29"),
        )
    ]
    fields.CRYPTER = Fernet(keys[1])
    found += [(TEXTS[0], saved(fields.EncryptedTextField(), TEXTS[0], connection))]
    yield "", {"FIELD_ENCRYPTION_KEY": keys}, found


def django_searchable_encrypted_fields() -> Iterator[tuple[str, dict, list]]:
    keys = ["11" * 32, "22" * 32]
    connection = configure(FIELD_ENCRYPTION_KEYS=keys)
    from encrypted_fields import fields

    found = [(text, saved(fields.EncryptedTextField(), text, connection)) for text in TEXTS]
    found += [
        (str(value), saved(field(), value, connection))
        for field, value in (
            (fields.EncryptedIntegerField, 42),
            (fields.EncryptedDateField, NOW.date()),
        )
    ]
    older = fields.EncryptedTextField()
    older.keys = keys[1:]
    found += [(TEXTS[0], saved(older, TEXTS[0], connection))]
    yield "", {"FIELD_ENCRYPTION_KEYS": keys}, found


def django_tink_fields() -> Iterator[tuple[str, dict, list]]:
    import io

    import tink
    from tink import aead, cleartext_keyset_handle, daead

    aead.register()
    daead.register()
    configs, secrets = {}, {}
    for name, template in (
        ("default", aead.aead_key_templates.AES256_GCM),
        ("siv", daead.deterministic_aead_key_templates.AES256_SIV),
    ):
        text = io.StringIO()
        cleartext_keyset_handle.write(tink.JsonKeysetWriter(text), tink.new_keyset_handle(template))
        path = Path(tempfile.mkdtemp()) / "keyset.json"
        path.write_text(text.getvalue(), "utf-8")
        configs[name] = {"path": str(path), "cleartext": True}
        # AesGcmKey and AesSivKey: the key alone is all of the message but its tag and length.
        key = base64.b64decode(json.loads(text.getvalue())["key"][0]["keyData"]["value"])
        secrets[name] = key[-(32 if name == "default" else 64) :].hex()
    connection = configure(TINK_FIELDS_CONFIG=configs)
    from tink_fields import fields

    found = [(text, saved(fields.EncryptedTextField(), text, connection)) for text in TEXTS]
    found += [
        (str(value), saved(field, value, connection))
        for field, value in (
            (fields.EncryptedIntegerField(), 42),
            (fields.EncryptedDateField(), NOW.date()),
        )
    ]
    yield "", {"OLD_TINK_KEY": secrets["default"]}, found
    bound = fields.EncryptedTextField(aad_callback=lambda field: b"patient.ssn")
    yield "-aad", {"OLD_TINK_KEY": secrets["default"]}, [(text, saved(bound, text, connection)) for text in TEXTS]
    field = fields.DeterministicEncryptedTextField(keyset="siv")
    yield "-daead", {"OLD_TINK_KEY": secrets["siv"]}, [(text, saved(field, text, connection)) for text in TEXTS]


LIBRARIES = {
    "django-cryptography": (django_cryptography, ["django-appconf", "cryptography"]),
    "django-cryptography-5": (django_cryptography, ["django-appconf", "cryptography"]),
    "django-encrypted-model-fields": (django_encrypted_model_fields, ["cryptography"]),
    "django-fernet-encrypted-fields": (django_fernet_encrypted_fields, ["cryptography"]),
    "django-fernet-fields-v2": (django_fernet_fields_v2, ["cryptography"]),
    "django-searchable-encrypted-fields": (django_searchable_encrypted_fields, ["pycryptodome"]),
    "django-tink-fields": (django_tink_fields, ["tink"]),
}


def main() -> None:
    name = sys.argv[1]
    write, others = LIBRARIES[name]
    versions = {each: importlib.metadata.version(each) for each in (name, "django", *others)}
    HERE.mkdir(exist_ok=True)
    for variant, settings, pairs in write():
        rows = [{"stored": stored(column), "value": spelled(value)} for value, column in pairs]
        content = {"written_by": versions, "settings": settings, "rows": rows}
        (HERE / f"{name}{variant}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
