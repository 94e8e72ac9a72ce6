"""Payloads in every layout: what opens, what does not, and what is exported. With real SDKs: ``tests/peers``."""

import base64
import os
import uuid

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.testapp.models import Legacy, Patient, Setting, Token
from vault_fields.embedded.blob import MAX_COPY_BYTES
from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextMismatch,
    KeyRevoked,
    ValueRefused,
    VaultRefused,
    VaultUnavailable,
)
from vault_fields.interop import MAX_KEYS_BYTES, Layout, export_value, import_value
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults

ACME = KeyContext({"organization_id": "acme"})


def uleb128(number):
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def sealed(plaintext, layout, associated_data=b"", *, key=None):
    """The payload as the SDK writes it, byte by byte."""
    key = key or vaults["default"].create_data_key(ACME)
    keys = base64.b64decode(key.encrypted_keys)
    iv = os.urandom(32 if layout is Layout.TAG_FIRST_32 else 12)
    whole = AESGCM(key.plaintext).encrypt(iv, plaintext, associated_data)
    ciphertext, tag = whole[:-16], whole[-16:]
    if layout is Layout.TAG_LAST:
        return uleb128(len(keys)) + keys + iv + ciphertext + tag
    return iv + tag + uleb128(len(keys)) + keys + ciphertext


def text(payload):
    return base64.b64encode(payload).decode()


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("plaintext", ["", "x", "grüße 🙂" * 100])
@pytest.mark.parametrize("associated_data", ["", "row 7, übrigens"])
def test_payload_of_each_layout_opens(layout, told, plaintext, associated_data) -> None:
    payload = text(sealed(plaintext.encode(), layout, associated_data.encode()))

    assert import_value(payload, associated_data=associated_data, layout=layout if told else None) == plaintext


@pytest.mark.parametrize("items", [1, 2, 10])
@pytest.mark.parametrize("layout", Layout)
def test_keys_of_any_length(layout, items) -> None:
    """Their length takes one byte, or two."""
    context = KeyContext({f"item {number}": "x" for number in range(items)})
    payload = text(sealed(b"value", layout, key=vaults["default"].create_data_key(context)))

    assert import_value(payload) == "value"


def test_export_with_long_keys(db) -> None:
    setting = Setting.objects.create(tenant="acme", value="s3cr3t")

    exported = export_value(Setting.objects.get(pk=setting.pk), "value")

    assert import_value(exported.payload, associated_data=exported.associated_data) == "s3cr3t"


@pytest.mark.parametrize("layout", Layout)
def test_other_associated_data_does_not_open(layout) -> None:
    payload = text(sealed(b"value", layout, b"row 7"))

    for other in ("", "row 8"):
        with pytest.raises(DecryptionError, match=r"^the payload does not open\.$"):
            import_value(payload, associated_data=other, layout=layout)
        with pytest.raises(DecryptionError):
            import_value(payload, associated_data=other)


@pytest.mark.parametrize("layout", Layout)
def test_no_bit_can_be_changed_and_no_byte_left_out(layout) -> None:
    payload = sealed(b"value", layout)

    for position in range(0, len(payload), 3):
        altered = bytearray(payload)
        altered[position] ^= 1 << position % 8
        with pytest.raises((DecryptionError, VaultRefused)):
            import_value(text(bytes(altered)), layout=layout)
    for length in range(0, len(payload), 7):
        with pytest.raises((DecryptionError, VaultRefused)):
            import_value(text(payload[:length]), layout=layout)
        with pytest.raises(DecryptionError):
            import_value(text(payload[:length]))


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no base64",
        "AAAA ",
        "ключи",
        text(bytes(28)),
        text(bytes(28) + b"\x80\x80\x80\x01"),
        text(bytes(28) + b"\xff" * 20),
        text(bytes(28) + uleb128(MAX_KEYS_BYTES + 1) + bytes(MAX_KEYS_BYTES + 64)),
        text(bytes(28) + b"\x81\x00" + bytes(50)),
        text(b"\x01k" + bytes(27)),
        "A" * 100_000_000,
    ],
    ids=str.__len__,
)
def test_what_is_no_payload_does_not_open(payload) -> None:
    with pytest.raises(DecryptionError):
        import_value(payload)
    for layout in Layout:
        with pytest.raises((DecryptionError, VaultRefused)):
            import_value(payload, layout=layout)


def test_longest_keys_of_a_vault_fit() -> None:
    assert MAX_KEYS_BYTES > MAX_COPY_BYTES


def test_text_that_is_not_utf8_does_not_open() -> None:
    with pytest.raises(DecryptionError) as caught:
        import_value(text(sealed(b"\xff\xfe", Layout.TAG_FIRST)))

    assert caught.value.__context__ is None


def test_keys_of_another_vault_are_refused(settings) -> None:
    memory = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}
    settings.VAULTS = {"default": memory, "other": memory}
    payload = text(sealed(b"value", Layout.TAG_FIRST))

    with pytest.raises(VaultRefused, match="other"):
        import_value(payload, vault="other", layout=Layout.TAG_FIRST)
    with pytest.raises(DecryptionError):
        import_value(payload, vault="other")
    assert import_value(payload) == "value"


def test_revoked_key_says_so_in_either_way() -> None:
    key = vaults["default"].create_data_key(KeyContext({"organization_id": "gone"}))
    payload = text(sealed(b"value", Layout.TAG_FIRST, key=key))
    vaults["default"].revoke("organization_id", "gone")
    try:
        for layout in (Layout.TAG_FIRST, None):
            with pytest.raises(KeyRevoked):
                import_value(payload, layout=layout)
    finally:
        vaults["default"].restore("organization_id", "gone")


def test_vault_that_is_away_is_no_verdict_on_the_payload() -> None:
    payload = text(sealed(b"value", Layout.TAG_FIRST))
    vaults["default"].purge()

    with vaults["default"].fail_with(VaultUnavailable("away")), pytest.raises(VaultUnavailable):
        import_value(payload)


def test_export_is_a_payload_of_the_same_data_key(patient, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys")

    exported = export_value(Patient.objects.get(pk=patient.pk), "ssn")

    assert exported.associated_data == '["vault_fields",1,"testapp.Patient.ssn"]'
    opened = import_value(exported.payload, associated_data=exported.associated_data, layout=Layout.TAG_FIRST)
    assert opened == "123-45-6789"
    with pytest.raises(DecryptionError):
        import_value(exported.payload)
    assert stored(patient, "ssn", "ssn_keys") == before


def test_export_of_a_loaded_row(patient) -> None:
    exported = export_value(Patient.objects.get(pk=patient.pk), "history")

    assert import_value(exported.payload, associated_data=exported.associated_data) == "[1]"


def test_export_of_a_bound_value_has_its_row_in_the_associated_data(db) -> None:
    token = Token.objects.create(tenant=uuid.uuid4(), secret="s3cr3t")

    exported = export_value(Token.objects.get(pk=token.pk), "secret")

    assert exported.associated_data == f'["vault_fields",1,"testapp.Token.secret","{token.pk}"]'
    assert import_value(exported.payload, associated_data=exported.associated_data) == "s3cr3t"


def test_export_of_a_value_from_before_a_rename(patient, monkeypatch) -> None:
    field = Patient._meta.get_field("ssn")
    row = Patient.objects.get(pk=patient.pk)
    monkeypatch.setattr(field, "former_labels", ["testapp.Patient.ssn"])
    monkeypatch.setattr(type(field), "label", property(lambda field: "testapp.Person.ssn"))

    exported = export_value(row, "ssn")

    assert exported.associated_data == '["vault_fields",1,"testapp.Patient.ssn"]'


def test_export_of_a_row_that_is_bound_to_something_else_by_now(db) -> None:
    token = Token.objects.create(tenant=uuid.uuid4(), secret="s3cr3t")
    assert token.secret
    token.id = uuid.uuid4()

    with pytest.raises(DecryptionError, match="changed and not saved"):
        export_value(token, "secret")


def test_export_of_a_row_that_is_bound_to_nothing_by_now(db) -> None:
    token = Token.objects.create(tenant=uuid.uuid4(), secret="s3cr3t")
    assert token.secret
    token.id = None

    with pytest.raises(DecryptionError, match=r"bind_to names id, which is NULL in this row"):
        export_value(token, "secret")


def test_none_is_exported_as_none(patient) -> None:
    Patient.objects.filter(pk=patient.pk).update(notes=None)

    assert export_value(Patient.objects.get(pk=patient.pk), "notes") is None


def test_unsaved_value_is_not_exported(patient) -> None:
    row = Patient.objects.get(pk=patient.pk)
    row.history.append(2)
    with pytest.raises(ValueRefused, match=r"testapp\.Patient\.history: save the row"):
        export_value(row, "history")
    row.ssn = "other"
    with pytest.raises(ValueRefused, match="save the row"):
        export_value(row, "ssn")


def test_moved_value_is_not_exported(patient, other_organization, execute) -> None:
    execute("UPDATE testapp_patient SET organization_id = %s", other_organization.pk)

    with pytest.raises(KeyContextMismatch):
        export_value(Patient.objects.get(pk=patient.pk), "ssn")


def test_plaintext_is_not_exported(organization, execute) -> None:
    row = Legacy.objects.create(organization=organization, text="secret")
    execute("UPDATE testapp_legacy SET text = %s, text_keys = NULL", "in the clear")

    with pytest.raises(EnvelopeError):
        export_value(Legacy.objects.get(pk=row.pk), "text")


def test_keys_that_are_not_base64_are_not_exported(patient, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.interop.envelope_format.decode_base64", _none_for_keys())

    with pytest.raises(EnvelopeError, match="not base64"):
        export_value(Patient.objects.get(pk=patient.pk), "ssn")


def _none_for_keys():
    from vault_fields.stored.envelope import decode_base64

    return lambda raw: None if raw.startswith("VkYu") else decode_base64(raw)


def test_field_that_is_not_encrypted_is_refused(patient) -> None:
    with pytest.raises(TypeError, match=r"testapp\.Patient\.name is not an encrypted field"):
        export_value(patient, "name")
