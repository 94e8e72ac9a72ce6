"""
Any stored text that is cut or has a bit flipped is a typed error, and never a value.

Exhaustive, on stored rows: every proper prefix and every single-bit flip of the UTF-8 bytes of a value column and of a
companion is written past the ORM and read through it.
"""

import uuid

import pytest
from django.db import connection

from tests.testapp.models import Legacy, Letter, Patient, Setting, Token
from vault_fields.exceptions import DecryptionError, PlaintextFound, VaultError, VaultRefused
from vault_fields.vaults import vaults


def truncations(text):
    return [text[:length] for length in range(len(text))]


def bit_flips(text):
    """Every text that differs in one bit of its UTF-8 bytes; and how many flips leave bytes that are no text."""
    raw = text.encode()
    flips, undecodable = [], 0
    for position in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        try:
            flips.append(flipped.decode())
        except UnicodeDecodeError:
            undecodable += 1
    return flips, undecodable


@pytest.fixture
def patient(organization):
    return Patient.objects.create(organization=organization, ssn="123-45-6789"), "ssn", "ssn_keys"


@pytest.fixture
def history(organization):
    return Patient.objects.create(organization=organization, history={"a": [1]}), "history", "history_keys"


@pytest.fixture
def token(db):
    return Token.objects.create(tenant=uuid.uuid4(), secret="s3cret"), "secret", "secret_keys"


@pytest.fixture
def setting(db):
    """Its companion has a null, escapes, and characters of 1 to 4 bytes."""
    return Setting.objects.create(tenant='"\\\t\x1fé組🔑', kind=None, value="text"), "value", "value_keys"


@pytest.fixture
def letter(organization):
    """Two values beside one companion, which the other one has been opened with already."""
    created = Letter.objects.create(organization=organization, subject="subject", text={})
    assert Letter.objects.get(pk=created.pk).subject == "subject"
    return created, "text", "vault_keys"


@pytest.fixture(params=["patient", "history", "token", "setting", "letter"])
def row(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def outcomes(execute):
    """Store each text in a column; for each, the error or the value that reading the field through the ORM gives."""

    def read(instance, column, texts, field):
        table = instance._meta.db_table
        pk = instance._meta.pk.get_db_prep_value(instance.pk, connection)
        for text in texts:
            execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", text, pk)
            try:
                yield text, getattr(type(instance)._default_manager.get(pk=instance.pk), field)
            except (DecryptionError, VaultError) as error:
                yield text, error

    return read


def assert_all_refused(outcomes) -> None:
    accepted = [text for text, outcome in outcomes if not isinstance(outcome, (DecryptionError, VaultError))]
    assert accepted == []


@pytest.mark.parametrize("part", [1, 2], ids=["value", "companion"])
def test_any_truncation_is_a_typed_error(row, stored, outcomes, part) -> None:
    instance, field, _ = row
    (text,) = stored(instance, row[part])
    texts = truncations(text)
    assert len(texts) == len(text) > 70
    assert_all_refused(outcomes(instance, row[part], texts, field))


@pytest.mark.parametrize("part", [1, 2], ids=["value", "companion"])
def test_any_flipped_bit_is_a_typed_error(row, stored, outcomes, part) -> None:
    instance, field, _ = row
    (text,) = stored(instance, row[part])
    flips, undecodable = bit_flips(text)
    # A text column holds text. In ASCII, an eighth of the flips gives bytes that are none: those of the highest bits.
    assert len(flips) + undecodable == 8 * len(text.encode())
    if text.isascii():
        assert undecodable == len(text)
    assert "\0" not in "".join(flips), "PostgreSQL takes no text with U+0000"
    assert_all_refused(outcomes(instance, row[part], flips, field))


def test_the_row_opens_again_when_it_is_put_back(row, stored, outcomes) -> None:
    """What is refused above is refused for the change, and not because a row no longer opens after so much else."""
    instance, field, companion = row
    value, keys = stored(instance, field, companion)
    read = list(outcomes(instance, field, [value[:-1], value], field))
    read += outcomes(instance, companion, [keys[:-1], keys], field)
    expected = getattr(instance, field)
    assert [outcome for _, outcome in read[1::2]] == [expected, expected]
    assert_all_refused(read[0::2])


def test_flips_meet_every_kind_of_check(patient, stored, outcomes) -> None:
    """A flip in the header is no envelope any more, one in the encrypted keys is the Vault's to refuse."""
    instance, field, companion = patient
    value, keys = stored(instance, field, companion)
    met = set()
    for column, text in [(field, value), (companion, keys)]:
        met |= {type(outcome) for _, outcome in outcomes(instance, column, bit_flips(text)[0], field)}
        assert list(outcomes(instance, column, [text], field)) == [(text, "123-45-6789")]
    assert {PlaintextFound, VaultRefused, DecryptionError} < met
    assert {error.__name__ for error in met} == {
        "DecryptionError",
        "EnvelopeError",
        "KeyContextMismatch",
        "PlaintextFound",
        "UnknownVault",
        "VaultRefused",
    }


@pytest.mark.parametrize("cold", [False, True])
def test_a_page_with_one_damaged_row_opens_the_others(organization, execute, cold) -> None:
    patients = [Patient.objects.create(organization=organization, ssn=str(number)) for number in range(3)]
    execute(f"UPDATE {Patient._meta.db_table} SET ssn_keys = %s WHERE id = %s", "{", patients[1].pk)
    if cold:
        vaults["default"].purge()
    first, second, third = Patient.objects.order_by("pk")
    assert (first.ssn, third.ssn) == ("0", "2")
    with pytest.raises(DecryptionError, match=rf"testapp.Patient.ssn \(pk={second.pk}\)"):
        second.ssn  # noqa: B018


def test_while_a_column_is_migrating_a_header_that_was_altered_is_plaintext(organization, stored, outcomes) -> None:
    """The price of ``migrating``, and the reason that it does not stay on: the header alone tells."""
    legacy = Legacy.objects.create(organization=organization, text="text")
    (value,) = stored(legacy, "text")
    assert list(outcomes(legacy, "text", [value[1:]], "text")) == [(value[1:], value[1:])]
    assert_all_refused(outcomes(legacy, "text", truncations(value)[len("$vf$1$") :], "text"))
