"""The known-answer vectors, opened by the fields themselves and by a decoder that has nothing of theirs."""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from django.db import models
from django.db.models import Value
from django.test.utils import isolate_apps

from tests import independent_decoder
from tests.testapp.models import Patient, Setting, Token
from tests.vectors import generate
from tests.vectors.scenario import Scenario
from vault_fields import exceptions, fields
from vault_fields.backends.memory import InMemoryVault
from vault_fields.datakeys.cache import KeyCache
from vault_fields.fields import EncryptedJSONField, EncryptedTextField
from vault_fields.fields.groups import group_of
from vault_fields.fields.opening import open_sealed
from vault_fields.fields.sealed import Sealed
from vault_fields.fields.types.typed import CanonicalField
from vault_fields.keys import DataKey, KeyContext
from vault_fields.vaults import vaults

VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(generate.HERE.glob("*.json"))}
VALID = {name: vector for name, vector in VECTORS.items() if vector["expect"] == "valid"}
INVALID = {name: vector for name, vector in VECTORS.items() if vector["expect"] != "valid"}


def each(vectors):
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=name) for name, vector in vectors.items()])


def test_generating_the_vectors_again_gives_the_same_files() -> None:
    assert {path.name: path.read_text("ascii") for path in generate.HERE.glob("*.json")} == generate.files()


def test_generating_writes_every_file_and_removes_those_of_scenarios_that_are_gone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    (tmp_path / "gone.json").write_text("{}")
    generate.main()
    assert {path.name: path.read_text("ascii") for path in tmp_path.iterdir()} == generate.files()


def test_every_way_to_fail_has_vectors() -> None:
    assert set(Counter(vector["expect"] for vector in INVALID.values())) == {
        "DecryptionError",
        "EnvelopeError",
        "KeyContextMismatch",
        "PlaintextFound",
        "VaultRefused",
    }


def test_vectors_that_differ_in_one_thing_say_which() -> None:
    """No two scenarios are the same value in the same place."""
    seen = [json.dumps({**vector, "about": None}, sort_keys=True) for vector in VECTORS.values()]
    assert len(set(seen)) == len(seen)


# By the fields.


def encrypted_field(vector, kind):
    """The field that the vector's reader has declared."""
    app_label, model, name = vector["label"].split(".")
    columns = {f"column{number}": row_name for number, row_name in enumerate(vector["row"])}
    bind_to = [f"bound{number}" for number, _ in enumerate(vector["bound"])]
    key_context = {row_name: column for column, row_name in columns.items()} or {"purpose": Value("care")}
    with isolate_apps("tests.testapp"):
        made = type(
            model,
            (models.Model,),
            {
                "__module__": __name__,
                "Meta": type("Meta", (), {"app_label": app_label}),
                name: kind(key_context=key_context, bind_to=bind_to, former_labels=vector["former_labels"]),
                **{column: models.TextField(null=True) for column in (*columns, *bind_to)},
            },
        )
    return made._meta.get_field(name)


def open_with_fields(vector, settings, kind=EncryptedTextField):
    settings.VAULTS = {vector["vault"]: {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
    key = DataKey("whatever the Vault calls it", vector["encrypted_keys"], bytes.fromhex(vector["data_key"]))
    vaults[vector["vault"]].cache.put(key, None)
    field = encrypted_field(vector, kind)
    context_columns = group_of(field).bindings
    values = (*(vector["row"][binding.name] for binding in context_columns), *vector["bound"])
    return open_sealed(field, Sealed(vector["value"], vector["companion"], values), None).value


@each(VALID)
def test_fields_open_a_valid_vector(vector, settings) -> None:
    assert open_with_fields(vector, settings) == vector["plaintext"]


@each({name: vector for name, vector in VALID.items() if name.startswith("json-")})
def test_json_fields_open_a_vector_of_json(vector, settings) -> None:
    opened = open_with_fields(vector, settings, EncryptedJSONField)
    expected = json.loads(vector["plaintext"])
    assert (opened, type(opened)) == (expected, type(expected))


TYPED = {name: vector for name, vector in VALID.items() if "field" in vector}
SIZES = {"EncryptedDecimalField": {"max_digits": 8, "decimal_places": 2}}


@each(TYPED)
def test_typed_fields_open_and_write_a_vector_of_their_type(vector, settings) -> None:
    kind = partial(getattr(fields, vector["field"]), **SIZES.get(vector["field"], {}))
    opened = open_with_fields(vector, settings, kind)
    field = kind(key_context=["a"])
    assert field.canonical_text(opened) == vector["canonical"]
    assert field.padded(vector["canonical"]) == vector["plaintext"]


def test_every_type_has_a_vector() -> None:
    classes = {name for name in fields.__all__ if isinstance(getattr(fields, name), type)}
    typed = {name for name in classes if issubclass(getattr(fields, name), (CanonicalField, fields.EncryptedCharField))}
    assert {vector["field"] for vector in TYPED.values()} == typed


@each(INVALID)
def test_fields_refuse_an_invalid_vector_with_the_error_it_names(vector, settings) -> None:
    with pytest.raises(exceptions.VaultFieldsError) as caught:
        open_with_fields(vector, settings)
    # Only this package tells apart which of its settings is missing.
    kind = {exceptions.UnknownVault: exceptions.DecryptionError}.get(type(caught.value), type(caught.value))
    assert kind is getattr(exceptions, vector["expect"])
    assert str(caught.value).startswith((f"{vector['label']}: ", f"VAULTS['default']: {vector['label']}: "))
    for secret in (vector["data_key"], vector["encrypted_keys"], "123-45-6789", vector["value"].rpartition("$")[2]):
        assert not secret or secret not in str(caught.value)


BEFORE_THE_VAULT = {"EnvelopeError", "KeyContextMismatch", "PlaintextFound"}


@each({name: vector for name, vector in INVALID.items() if vector["expect"] in BEFORE_THE_VAULT})
def test_the_vault_is_asked_about_nothing_that_cannot_open(vector, settings, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(InMemoryVault, "decrypt_data_keys", lambda vault, wanted: asked.append(wanted))
    monkeypatch.setattr(KeyCache, "get", lambda cache, name: asked.append(name))
    with pytest.raises(getattr(exceptions, vector["expect"])):
        open_with_fields(vector, settings)
    assert asked == []


# By the second decoder.


def open_independently(vector):
    def unwrap(alias, encrypted_keys):
        if alias != vector["vault"]:
            raise ValueError("DecryptionError")
        if encrypted_keys != vector["encrypted_keys"]:
            raise ValueError("VaultRefused")
        return bytes.fromhex(vector["data_key"])

    known = {name: vector[name] for name in ("value", "companion", "row", "label", "former_labels", "bound")}
    return independent_decoder.open_value(**known, unwrap=unwrap)


def test_the_second_decoder_is_short_and_has_nothing_of_this_package() -> None:
    source = Path(independent_decoder.__file__).read_text("utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert len(source.splitlines()) <= 60
    assert {line.split()[1].partition(".")[0] for line in imports} == {
        *("base64", "contextlib", "hmac", "json", "re"),
        "cryptography",
    }
    assert len(imports) == source.count("import ")


@each(VALID)
def test_the_second_decoder_opens_a_valid_vector(vector) -> None:
    assert open_independently(vector) == vector["plaintext"]


@each(TYPED)
def test_a_canonical_text_is_what_the_second_decoder_opens_without_the_spaces_behind_it(vector) -> None:
    opened = open_independently(vector)
    assert (opened if vector["field"] == "EncryptedCharField" else opened.rstrip(" ")) == vector["canonical"]


@each(INVALID)
def test_the_second_decoder_refuses_an_invalid_vector_with_the_error_it_names(vector) -> None:
    with pytest.raises(ValueError) as caught:
        open_independently(vector)
    assert caught.value.args == (vector["expect"],)


def unwrap(alias, encrypted_keys):
    return vaults[alias].decrypt_data_key(encrypted_keys).plaintext


def open_stored(stored, instance, name, row, bound=()):
    value, companion = stored(instance, name, f"{name}_keys")
    return independent_decoder.open_value(
        value,
        companion,
        row=row,
        label=f"{instance._meta.label}.{name}",
        former_labels=[],
        bound=bound,
        unwrap=unwrap,
    )


@pytest.mark.parametrize("text", ["123-45-6789", "", "é組🔑", "x" * 100_000])
def test_the_second_decoder_opens_what_the_orm_writes(organization, stored, text) -> None:
    patient = Patient.objects.create(organization=organization, ssn=text, history={"a": [text, None]})
    vaults["default"].purge()
    row = {"organization_id": str(organization.pk)}
    assert open_stored(stored, patient, "ssn", row) == text
    assert json.loads(open_stored(stored, patient, "history", row)) == {"a": [text, None]}


def test_the_second_decoder_opens_a_value_that_is_bound_to_its_row(db, stored) -> None:
    token = Token.objects.create(tenant="0193a1b2-0000-7000-8000-000000000001", secret="s3cret")
    assert open_stored(stored, token, "secret", {"tenant_id": str(token.tenant)}, [str(token.pk)]) == "s3cret"


def test_the_second_decoder_opens_a_value_whose_context_needs_escapes(db, stored) -> None:
    setting = Setting.objects.create(tenant='"\\/\t\x1f\x7f é🔑', kind=None, value="text")
    assert open_stored(stored, setting, "value", {"tenant": setting.tenant, "kind": None}) == "text"


def test_the_second_decoder_refuses_a_row_that_was_pasted_elsewhere(organization, other_organization, stored) -> None:
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789")
    with pytest.raises(ValueError, match="^KeyContextMismatch$"):
        open_stored(stored, patient, "ssn", {"organization_id": str(other_organization.pk)})


def test_fields_read_what_was_made_without_them(organization, execute) -> None:
    """A row written by another program, to the format page, with a data key from the Vault."""
    patient = Patient.objects.create(organization=organization, name="written elsewhere")
    context = {"organization_id": str(organization.pk)}
    key = vaults["default"].create_data_key(KeyContext(context))
    scenario = Scenario(
        about="",
        label="testapp.Patient.ssn",
        row=context,
        context=context,
        key_id=key.id,
        keys=key.encrypted_keys,
        sealed_with=key.plaintext,
        proven_with=key.plaintext,
    )
    table = Patient._meta.db_table
    execute(
        f"UPDATE {table} SET ssn = %s, ssn_keys = %s WHERE id = %s",
        *(scenario.value("fields"), scenario.companion(), patient.pk),
    )
    assert Patient.objects.get().ssn == "123-45-6789"
