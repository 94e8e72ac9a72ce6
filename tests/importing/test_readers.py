"""Readers of what other libraries wrote, against values that those libraries wrote; see ``vectors/make_imports.py``."""

import base64
import datetime as dt
import functools
import json
import uuid
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.serializer import serializer_factory
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.importing import keys
from tests.leaks import leaks
from vault_fields import importing
from vault_fields.exceptions import DecryptionError, KeyRevoked, VaultUnavailable
from vault_fields.interop import Layout
from vault_fields.vaults import vaults

VECTORS = Path(__file__).parents[1] / "vectors" / "imports"

READERS = {
    "django-cryptography": importing.DjangoCryptography(),
    "django-cryptography-5": importing.DjangoCryptography(),
    "django-cryptography-5-own-key": importing.DjangoCryptography(key="OLD_FIELD_KEY"),
    "django-cryptography-5-with-key": importing.DjangoCryptography(),
    "django-encrypted-model-fields": importing.EncryptedModelFields(),
    "django-fernet-encrypted-fields": importing.FernetEncryptedFields(),
    "django-fernet-encrypted-fields-json": importing.FernetEncryptedFields(leaves=True),
    "django-fernet-fields-v2": importing.FernetFields(),
    "django-fernet-fields-v2-no-hkdf": importing.FernetFields(),
    "django-searchable-encrypted-fields": importing.SearchableEncryptedFields(),
    "django-tink-fields": importing.TinkFields(keys.primitive),
    "django-tink-fields-aad": importing.TinkFields(keys.primitive, keys.associated_data),
    "django-tink-fields-daead": importing.TinkFields(keys.primitive, daead=True),
}
TYPES = {
    "Decimal": Decimal,
    "UUID": uuid.UUID,
    "bytes": base64.b64decode,
    "date": dt.date.fromisoformat,
    "datetime": dt.datetime.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda text: dt.timedelta(days=1, seconds=3) if text == "1 day, 0:00:03" else None,
}


def vector(name):
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def column(stored):
    return stored["text"] if "text" in stored else base64.b64decode(stored["base64"])


def expected(value):
    if isinstance(value, dict) and "type" in value:
        return TYPES[value["type"]](value["text"])
    return value


def read(reader, stored, using="default"):
    """The values, where bytes are taken for the text that they spell."""
    return [
        value.decode() if isinstance(value, bytes) and b"\xff" not in value else value
        for value in reader.read(stored, using)
    ]


def other_settings(settings):
    """Keys of the same form that are not those."""
    others = {name: value for name, value in settings.items() if name != "FERNET_USE_HKDF"}
    return settings | {name: _other(value) for name, value in others.items()}


def _other(value):
    if isinstance(value, list):
        return [_other(each) for each in value]
    return value.translate(str.maketrans("123abcfktxMZ", "456efadtkrNY"))


def test_every_vector_has_a_reader() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == {*READERS, "django-cryptography-5-code"}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_what_its_library_wrote(name) -> None:
    content = vector(name)
    with override_settings(**content["settings"]):
        found = read(READERS[name], [column(row["stored"]) for row in content["rows"]])
    assert found == [expected(row["value"]) for row in content["rows"]]
    assert [type(value) for value in found] == [type(expected(row["value"])) for row in content["rows"]]


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_key_is_a_typed_error_without_the_value(name) -> None:
    content = vector(name)
    stored = [column(row["stored"]) for row in content["rows"]]
    with override_settings(**other_settings(content["settings"])):
        errors = READERS[name].read(stored, "default")
    assert {type(error) for error in errors} == {DecryptionError}
    assert all(f"{type(READERS[name]).__name__} does not open the old column" in str(error) for error in errors)
    assert all(error.__traceback__ is None and error.__context__ is None for error in errors)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("place", [0, 12, 20, 40, -20, -1])
def test_tampered_content_is_an_error_without_the_value(name, place) -> None:
    content = vector(name)
    stored = column(content["rows"][0]["stored"])
    text = stored if isinstance(stored, str) else stored.decode("latin-1")
    place %= len(text)
    # One that base64 has, and that no character of it equals but by a bit that counts.
    changed = text[:place] + ("A" if text[place] not in "ABCD=" else "z") + text[place + 1 :]
    stored = changed if isinstance(stored, str) else changed.encode("latin-1")
    with override_settings(**content["settings"]):
        (error, cut) = READERS[name].read([stored, stored[: len(text) // 2]], "default")
    assert isinstance(error, DecryptionError)
    assert isinstance(cut, DecryptionError)
    assert "123-45-6789" not in str(error)


@pytest.mark.parametrize("name", READERS)
def test_what_was_never_encrypted_is_an_error_without_the_value(name) -> None:
    with override_settings(**vector(name)["settings"]):
        for error in READERS[name].read(["123-45-6789", b"123-45-6789", b"", memoryview(b"1"), 17], "default"):
            assert isinstance(error, DecryptionError)
            assert "123-45-6789" not in str(error)


def test_a_pickle_that_would_run_code_is_not_loaded() -> None:
    content = vector("django-cryptography-5-code")
    stored = column(content["rows"][0]["stored"])
    with override_settings(**content["settings"]):
        (error,) = importing.DjangoCryptography().read([stored], "default")
    assert type(error) is DecryptionError
    assert "pickle of another type" in str(error)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_written_into_migrations_without_a_key(name) -> None:
    text, imports = serializer_factory(READERS[name]).serialize()
    assert text.startswith("vault_fields.importing.")
    assert "import vault_fields.importing" in imports
    values = [
        each for value in vector(name)["settings"].values() for each in (value if type(value) is list else [value])
    ]
    assert not [value for value in values if isinstance(value, str) and value in text]
    scope: dict = {}
    exec("\n".join(imports), scope)
    assert eval(text, scope).deconstruct() == READERS[name].deconstruct()


@pytest.mark.parametrize(
    "key",
    [
        base64.urlsafe_b64encode(b"1" * 32).decode(),
        "a pass phrase",
        "AB" * 32,
        "lower_case",
        lambda: "key",
        functools.partial(keys.fernet_keys, "key"),
        b"bytes",
        None,
    ],
)
def test_a_key_in_the_place_of_a_name_is_refused_and_not_shown(key) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^keys is ") as caught:
        importing.EncryptedModelFields(key)
    assert str(key) not in str(caught.value)
    assert not isinstance(key, str) or not leaks(caught.value, [key])


@pytest.mark.parametrize("function", ["primitive", lambda: None])
def test_a_primitive_is_named_too(function) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^primitive is a function at the top of a module"):
        importing.TinkFields(function)
    with pytest.raises(ImproperlyConfigured, match=r"^associated_data is a function at the top of a module"):
        importing.TinkFields(keys.primitive, function)


def test_keys_come_from_a_function_too() -> None:
    content = vector("django-encrypted-model-fields")
    with override_settings(ELSEWHERE=content["settings"]["FIELD_ENCRYPTION_KEY"]):
        found = importing.EncryptedModelFields(keys.fernet_keys).read([column(content["rows"][0]["stored"])], "default")
    assert found == [b"123-45-6789"]


def test_a_secret_of_ones_own_is_tried_without_the_fallbacks() -> None:
    content = vector("django-fernet-encrypted-fields")
    settings = content["settings"] | {"OLD_SECRET": content["settings"]["SECRET_KEY"]}
    with override_settings(**settings):
        reader = importing.FernetEncryptedFields("OLD_SECRET")
        first, *_, last = reader.read([column(row["stored"]) for row in content["rows"]], "default")
    assert first == b"123-45-6789"
    assert isinstance(last, DecryptionError)


@pytest.mark.parametrize("value", [None, "", [], [None]])
def test_a_setting_without_a_key_says_so(value) -> None:
    told = r"^The setting FERNET_KEYS has no key to read the old column"
    with override_settings(FERNET_KEYS=value), pytest.raises(ImproperlyConfigured, match=told):
        importing.FernetFields().read([b"x"], "default")


def test_a_function_without_a_key_says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^tests\.importing\.keys\.no_keys\(\) has no key"):
        importing.FernetFields(keys.no_keys).read([b"x"], "default")


@pytest.mark.parametrize(
    ("reader", "setting"),
    [
        (importing.EncryptedModelFields(), "FIELD_ENCRYPTION_KEY"),
        (importing.SearchableEncryptedFields(), "FIELD_ENCRYPTION_KEYS"),
    ],
)
@pytest.mark.parametrize("key", ["secret-of-a-wrong-form", 17])
def test_a_key_of_a_wrong_form_is_told_and_not_shown(reader, setting, key) -> None:
    with (
        override_settings(**{setting: [key]}),
        pytest.raises(ImproperlyConfigured, match=r"^A key of the old") as caught,
    ):
        reader.read([b"x"], "default")
    assert not leaks(caught.value, ["secret-of-a-wrong-form"])


def test_a_reader_of_ones_own_needs_one_method() -> None:
    class Backwards(importing.Reader):
        def opener(self):
            return lambda stored: stored[::-1]

    assert Backwards().read(["abc", None], "default")[0] == b"cba"


def payload(text, associated_data=""):
    pair = vaults["default"].create_data_key({"org": "a"})
    nonce, key = b"n" * 12, pair.aead
    sealed = key.encrypt(nonce, text.encode(), associated_data.encode())
    wrapped = base64.b64decode(pair.encrypted_keys)
    length = len(wrapped)
    leb = bytes([length & 0x7F | 0x80, length >> 7]) if length > 0x7F else bytes([length])
    return base64.b64encode(nonce + sealed[-16:] + leb + wrapped + sealed[:-16]).decode()


def test_payloads_of_the_sdks_are_read() -> None:
    plain, bound = payload("123-45-6789"), payload("bound", "patient")
    reader = importing.WorkosPayload(layout=Layout.TAG_FIRST)
    first, refused, broken = reader.read([plain, bound, plain[:40]], "default")
    assert first == b"123-45-6789"
    assert (str(refused), str(broken)) == ("the payload does not open.", "the payload does not open.")
    assert importing.WorkosPayload(associated_data="patient").read([bound], "default") == [b"bound"]
    text, _ = serializer_factory(reader).serialize()
    assert text == "vault_fields.importing.WorkosPayload(layout=vault_fields.interop.Layout['TAG_FIRST'])"


def test_a_vault_that_is_away_ends_the_reading_and_one_that_refuses_a_key_does_not() -> None:
    vault, stored = vaults["default"], [payload("a"), payload("b")]
    vault.purge()
    with vault.fail_with(VaultUnavailable("Away.")), pytest.raises(VaultUnavailable):
        importing.WorkosPayload().read(stored, "default")
    with vault.fail_with(KeyRevoked("Gone.", alias="default")):
        errors = importing.WorkosPayload().read(stored, "default")
    assert [(type(error), str(error)) for error in errors] == [(KeyRevoked, "VAULTS['default']: Gone.")] * 2


# pgcrypto.

needs_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="pgcrypto is PostgreSQL's")


@pytest.fixture
def pgcrypto(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgcrypto'")
        if cursor.fetchone() is None:
            pytest.skip("this server has no pgcrypto")
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")

    def encrypt(text, key="the old key"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pgp_sym_encrypt(%s, %s)", [text, key])
            return cursor.fetchone()[0]

    with override_settings(PGCRYPTO_KEY="the old key"):
        yield encrypt


@needs_postgresql
def test_postgresql_decrypts_a_batch_in_one_query_that_nobody_logs(pgcrypto, settings) -> None:
    stored = [pgcrypto(text) for text in ("123-45-6789", "", "الدكتور 👩🏽‍⚕️")]
    with CaptureQueriesContext(connection) as queries:
        found = importing.Pgcrypto("PGCRYPTO_KEY").read(stored, "default")
    assert [value.decode() for value in found] == ["123-45-6789", "", "الدكتور 👩🏽‍⚕️"]
    assert not [query for query in queries if "the old key" in query["sql"] or "pgp_sym" in query["sql"]]


@needs_postgresql
def test_one_damaged_value_does_not_keep_the_others(pgcrypto) -> None:
    good, foreign = pgcrypto("good"), pgcrypto("foreign", "another key")
    found = importing.Pgcrypto("PGCRYPTO_KEY").read([good, foreign, b"no message", "text", 17, good], "default")
    assert [found[0], found[5]] == [b"good", b"good"]
    assert all(isinstance(error, DecryptionError) for error in found[1:5])
    assert [str(error)[:50] for error in found[1:3]] == ["pgp_sym_decrypt does not open the old column: its "] * 2
    assert "does not hold bytes" in str(found[3])
    assert importing.Pgcrypto("PGCRYPTO_KEY").read([good], "default") == [b"good"]


@needs_postgresql
def test_a_database_without_the_extension_says_what_to_install(db) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION IF EXISTS pgcrypto")
    told = pytest.raises(ImproperlyConfigured, match=r"CryptoExtension")
    with override_settings(PGCRYPTO_KEY="the old key"), told as caught:
        importing.Pgcrypto("PGCRYPTO_KEY").read([b"x"], "default")
    assert not leaks(caught.value, ["the old key"])


@needs_postgresql
def test_any_other_error_of_the_database_is_told_by_its_state(db, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.importing.pgcrypto._SQL", "SELEC %s, %s")
    with override_settings(PGCRYPTO_KEY="the old key"), pytest.raises(DatabaseError, match=r"SQLSTATE") as caught:
        importing.Pgcrypto("PGCRYPTO_KEY").read([b"x"], "default")
    assert not leaks(caught.value, ["the old key"])


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="says something about the others")
def test_another_database_is_told_that_pgcrypto_is_postgresqls() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASES\['default'\] is not PostgreSQL"):
        importing.Pgcrypto("PGCRYPTO_KEY").read([b"x"], "default")


def test_pgcrypto_opens_nothing_one_by_one() -> None:
    with pytest.raises(NotImplementedError):
        importing.Pgcrypto("PGCRYPTO_KEY").opener()
