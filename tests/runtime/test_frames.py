"""
Nothing leaks when something fails: no frame of the package, and no exception, has plaintext or a key in it.

A scenario is a function that fails, given what it works with; add one with ``@scenario``. Whatever is in ``SECRETS``,
and every data key of a stored row, is looked for.
"""

import asyncio
import base64
import copy
import json
import pickle
from contextlib import closing
from types import SimpleNamespace
from typing import Never

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.admin.sites import AdminSite, all_sites
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.forms import CharField, ModelForm, Textarea
from django.test import override_settings
from django.test.utils import isolate_apps

from tests.faulty_server import Reply, faulty_server
from tests.leaks import chain, holds, leaks, our_frames
from tests.testapp.models import Legacy, Letter, Patient
from vault_fields.admin import EncryptedFieldsMixin
from vault_fields.admin.cells import Cell
from vault_fields.backends.local import LocalVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.byok import build_provider
from vault_fields.embedded.managed.rootkey import decode_root_key, generate_root_key
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import (
    DecryptionError,
    KeyContextError,
    KeyContextMismatch,
    PlaintextFound,
    ValueRefused,
    VaultError,
    VaultRefused,
    VaultUnavailable,
)
from vault_fields.fields import EncryptedJSONField, EncryptedTextField, aopen, try_open
from vault_fields.fields.encoding import EncodableValidator
from vault_fields.keys import DataKey, KeyContext
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.runtime.frames import forget, forgetful, forgetful_class
from vault_fields.stored.companion import decode
from vault_fields.vaults import vault_config, vaults

PLAINTEXT, OTHER = "canary-078-05-1120", "canary-of-another-tenant"
# In lower case, and with a dot, as tokens of OpenBao have: no rule about dotted paths may be what hides it.
API_KEY = "hvs.canary_sk_live_4711"
# One in 64 begins as an absolute path does, and is none that is refused.
ROOT_KEY = next(key for key in iter(generate_root_key, "") if not key.startswith("/"))
SECRETS = [PLAINTEXT, OTHER, API_KEY, ROOT_KEY, base64.b64decode(ROOT_KEY)]

SCENARIOS: list[object] = []


def scenario(expected):
    """What the function raises, which gets what it works with: see ``given``."""

    def register(function):
        SCENARIOS.append(pytest.param(function, expected, id=function.__name__))
        return function

    return register


class Decoder(json.JSONDecoder):
    def decode(self, text, **options) -> Never:
        raise ValueError(text)


def _named_by_its_values(row):
    """What a row is called that reads its encrypted fields: whatever opens."""
    return " ".join(str(try_open(row, name)) for name in ("ssn", "notes", "history"))


@pytest.fixture
def named_by_values(monkeypatch) -> None:
    """Whoever shows a row, as error trackers do with each that a frame holds, shows its values."""
    monkeypatch.setattr(Patient, "__str__", _named_by_its_values)


@pytest.fixture
def given(organization, other_organization, execute, move, tmp_path):
    """Two rows of two tenants with values that nobody may see, and how to harm them."""
    first = Patient.objects.create(organization=organization, ssn=PLAINTEXT, notes=PLAINTEXT, history=[PLAINTEXT])
    second = Patient.objects.create(organization=other_organization, ssn=OTHER, notes=OTHER, history=[OTHER])
    data_keys = _data_keys()
    vaults.purge()
    return SimpleNamespace(
        first=first,
        second=second,
        organization=organization,
        execute=execute,
        move=move,
        path=tmp_path,
        data_keys=data_keys,
        secrets=[*SECRETS, *data_keys],
        load=lambda: Patient.objects.get(pk=first.pk),
    )


def _data_keys():
    texts = {text for row in Patient.objects.values_list("ssn_keys", "notes_keys", "history_keys") for text in row}
    return {vaults["default"].decrypt_data_key(decode(text).encrypted_keys).plaintext for text in texts if text}


# Reading.


@scenario(DecryptionError)
def read_beside_a_value_that_opens(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn_keys = NULL")
    _ = given.load().ssn


@scenario(Patient.DoesNotExist)
def read_a_deferred_value_of_a_row_that_went(given) -> None:
    row = Patient.objects.defer("ssn").get(pk=given.first.pk)
    given.execute("DELETE FROM testapp_patient")
    _ = row.ssn


@scenario(DecryptionError)
def read_beside_a_value_that_is_not_saved(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn_keys = NULL")
    row = given.load()
    row.notes = OTHER
    _ = row.ssn


@scenario(DecryptionError)
def read_a_value_that_does_not_open(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = (SELECT notes FROM (SELECT notes FROM testapp_patient) t LIMIT 1)")
    _ = given.load().ssn


@scenario(PlaintextFound)
def read_plaintext(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = %s", PLAINTEXT)
    _ = given.load().ssn


@scenario(PlaintextFound)
def values_of_plaintext(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = %s WHERE id = %s", PLAINTEXT, given.second.pk)
    list(Patient.objects.order_by("pk").values("notes", "ssn"))


@scenario(PlaintextFound)
def annotation_of_plaintext(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = %s WHERE id = %s", PLAINTEXT, given.second.pk)
    list(Patient.objects.order_by("pk").annotate(copied=F("ssn")))


@scenario(KeyContextMismatch)
def values_list_in_which_one_row_was_moved(given) -> None:
    given.move(Patient, given.organization, given.second.pk)
    list(Patient.objects.order_by("pk").values_list("ssn", "notes", "history"))


@scenario(KeyContextMismatch)
def flat_values_in_which_one_row_was_moved(given) -> None:
    given.move(Patient, given.organization, given.second.pk)
    for _ in Patient.objects.order_by("pk").values_list("ssn", flat=True).iterator(chunk_size=10):
        pass


@scenario(VaultUnavailable)
def values_while_the_vault_is_away(given) -> None:
    with vaults["default"].fail_with(VaultUnavailable("away")):
        list(Patient.objects.values("ssn"))


@scenario(VaultUnavailable)
def read_while_the_vault_is_away(given) -> None:
    row = given.load()
    row.notes = PLAINTEXT
    with vaults["default"].fail_with(VaultUnavailable("away")):
        _ = row.ssn


@scenario(RuntimeError)
def read_while_the_vault_has_a_bug(given) -> None:
    with vaults["default"].fail_with(RuntimeError("a bug")):
        list(Patient.objects.values("ssn"))


@scenario(DecryptionError)
def read_a_value_that_is_not_json(given) -> None:
    row = Legacy.objects.create(organization=given.organization, data=[PLAINTEXT])
    given.execute("UPDATE testapp_legacy SET data = %s", f'["{PLAINTEXT}"')
    _ = Legacy.objects.get(pk=row.pk).data


@scenario(DecryptionError)
def values_that_are_not_json(given) -> None:
    Legacy.objects.create(organization=given.organization, data=[OTHER])
    row = Legacy.objects.create(organization=given.organization, data=[PLAINTEXT])
    given.execute("UPDATE testapp_legacy SET data = %s WHERE id = %s", f'["{PLAINTEXT}"', row.pk)
    list(Legacy.objects.order_by("pk").values("data"))


@scenario(DecryptionError)
def read_by_a_decoder_that_fails(given) -> None:
    field = Patient._meta.get_field("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field, "decoder", Decoder)
        _ = given.load().history


@scenario(FieldError)
def select_what_is_computed(given) -> None:
    list(Patient.objects.annotate(both=Concat("ssn", Value(PLAINTEXT))))


@scenario(FieldError)
def convert_by_hand_what_is_computed(given) -> None:
    field = Patient._meta.get_field("ssn")
    field.get_db_converters(connection)[0](PLAINTEXT, Concat("ssn", "notes"), connection)


@scenario(DecryptionError)
def the_value_of_an_attempt_that_failed(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = %s", PLAINTEXT)
    _ = try_open(given.load(), "ssn").value


@scenario(DecryptionError)
def reading_in_a_coroutine_what_did_not_open_before(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn = %s", PLAINTEXT)
    row = given.load()

    async def read():
        await aopen([row], strict=False)
        return row.ssn

    asyncio.run(read())


@scenario(VaultUnavailable)
def aopen_while_the_vault_is_away(given) -> None:
    async def read() -> None:
        with vaults["default"].fail_with(VaultUnavailable("away")):
            await aopen([row])

    row = given.load()
    row.notes = PLAINTEXT
    asyncio.run(read())


# Writing.


@scenario(VaultUnavailable)
def save_while_the_vault_is_away(given) -> None:
    row = Patient(organization=given.organization, ssn=PLAINTEXT, history=[PLAINTEXT])
    with vaults["default"].fail_with(VaultUnavailable("away")), transaction.atomic():
        row.save()


@scenario(VaultUnavailable)
def save_a_field_while_the_vault_is_away(given) -> None:
    row = given.load()
    row.ssn = PLAINTEXT
    with vaults["default"].fail_with(VaultUnavailable("away")), transaction.atomic():
        row.save(update_fields=["ssn"])


@scenario(VaultUnavailable)
def bulk_create_while_the_vault_is_away(given) -> None:
    rows = [Patient(organization=given.organization, ssn=text) for text in (PLAINTEXT, OTHER)]
    with vaults["default"].fail_with(VaultUnavailable("away")), transaction.atomic():
        Patient.objects.bulk_create(rows)


@scenario(VaultUnavailable)
def bulk_update_while_the_vault_is_away(given) -> None:
    rows = list(Patient.objects.all())
    for row in rows:
        row.ssn = PLAINTEXT
    with vaults["default"].fail_with(VaultUnavailable("away")), transaction.atomic():
        Patient.objects.bulk_update(rows, ["ssn"])


@scenario(VaultUnavailable)
def update_while_the_vault_is_away(given) -> None:
    with vaults["default"].fail_with(VaultUnavailable("away")), transaction.atomic():
        Patient.objects.update(ssn=PLAINTEXT)


@scenario(ValueRefused)
def update_with_what_cannot_be_encoded(given) -> None:
    with transaction.atomic():
        Patient.objects.update(ssn=f"{PLAINTEXT}\ud800")


@scenario(FieldError)
def update_with_an_expression(given) -> None:
    with transaction.atomic():
        Patient.objects.update(ssn=Value(PLAINTEXT))


@scenario(FieldError)
def save_an_expression(given) -> None:
    with transaction.atomic():
        Patient.objects.create(organization=given.organization, ssn=Value(PLAINTEXT), notes=PLAINTEXT)


@scenario(FieldError)
def filter_by_a_value(given) -> None:
    Patient.objects.filter(ssn=PLAINTEXT)


@scenario(FieldError)
def filter_by_a_part(given) -> None:
    Patient.objects.filter(ssn__startswith=PLAINTEXT)


@scenario(FieldError)
def get_or_create_by_a_value(given) -> None:
    Patient.objects.get_or_create(ssn=PLAINTEXT, defaults={"notes": PLAINTEXT})


@scenario(ValueRefused)
def save_json_that_cannot_be_encoded(given) -> None:
    with transaction.atomic():
        Patient.objects.create(organization=given.organization, history={PLAINTEXT: {PLAINTEXT}})


@scenario(ValueRefused)
def save_a_lone_surrogate(given) -> None:
    with transaction.atomic():
        Patient.objects.create(organization=given.organization, ssn=f"{PLAINTEXT}\ud800")


@scenario(KeyContextError)
def save_without_a_context(given) -> None:
    with transaction.atomic():
        Letter(subject=PLAINTEXT, text=[PLAINTEXT]).save()


@scenario(IntegrityError)
def save_what_the_database_refuses(given) -> None:
    with transaction.atomic():
        Patient(pk=given.first.pk, organization=given.organization, ssn=PLAINTEXT).save(force_insert=True)


@scenario(ZeroDivisionError)
def save_without_randomness(given) -> None:
    with pytest.MonkeyPatch.context() as patch, transaction.atomic():
        patch.setattr("vault_fields.stored.cipher.os.urandom", lambda size: 1 / 0)
        Patient.objects.create(organization=given.organization, ssn=PLAINTEXT, history=[PLAINTEXT])


@scenario(ValueRefused)
def save_what_is_too_long(given) -> None:
    with pytest.MonkeyPatch.context() as patch, transaction.atomic():
        patch.setattr("vault_fields.stored.envelope.MAX_PLAINTEXT_BYTES", 3)
        Patient.objects.create(organization=given.organization, ssn=PLAINTEXT)


@scenario(DecryptionError)
def save_beside_a_value_that_does_not_open(given) -> None:
    row = Letter.objects.create(organization=given.organization, subject=PLAINTEXT, text=[PLAINTEXT])
    given.execute("UPDATE testapp_letter SET vault_keys = NULL")
    row = Letter.objects.get(pk=row.pk)
    row.subject = OTHER
    with transaction.atomic():
        row.save()


@scenario(ValueRefused)
def prepare_a_value_by_hand(given) -> None:
    field = Patient._meta.get_field("ssn")
    row = given.load()
    row.ssn = f"{PLAINTEXT}\ud800"
    field.pre_save(row, False)


@scenario(FieldError)
def prepare_plaintext_for_the_database(given) -> None:
    Patient._meta.get_field("ssn").get_db_prep_value(PLAINTEXT, connection)


@scenario(FieldError)
def move_rows_with_an_expression(given) -> None:
    with transaction.atomic():
        Patient.objects.update(ssn=PLAINTEXT, organization=F("organization"))


# Forms, serializers, copies.


@scenario(ValidationError)
def clean_what_cannot_be_encoded(given) -> None:
    EncodableValidator(Patient._meta.get_field("ssn"))(f"{PLAINTEXT}\ud800")


@scenario(ValidationError)
def clean_json_that_cannot_be_encoded(given) -> None:
    Patient._meta.get_field("history").clean({PLAINTEXT: {PLAINTEXT}}, None)


@scenario(ValidationError)
def clean_what_is_not_among_the_choices(given) -> None:
    field = EncryptedTextField(key_context=["organization_id"], choices=[("a", "A")])
    field.clean(PLAINTEXT, None)


@scenario(ValidationError)
def validate_what_is_no_json(given) -> None:
    Patient._meta.get_field("history").validate({PLAINTEXT: {PLAINTEXT}}, None)


@scenario(ValueRefused)
def serialize_a_row_that_was_not_saved(given) -> None:
    row = given.load()
    row.ssn = PLAINTEXT
    serializers.serialize("json", [row])


@scenario(ValueRefused)
def serialize_json_in_the_clear(given) -> None:
    row = Legacy.objects.create(organization=given.organization, data=[PLAINTEXT])
    given.execute("UPDATE testapp_legacy SET data = %s", f'["{PLAINTEXT}"]')
    serializers.serialize("json", [Legacy.objects.get(pk=row.pk)])


@scenario(TypeError)
def pickle_a_row_that_was_not_saved(given) -> None:
    row = given.load()
    row.ssn = PLAINTEXT
    pickle.dumps(row)


@scenario(TypeError)
def pickle_json_that_was_changed_in_place(given) -> None:
    row = given.load()
    row.history.append(PLAINTEXT)
    pickle.dumps(row)


@scenario(TypeError)
def pickle_a_data_key(given) -> None:
    pickle.dumps(vaults["default"].create_data_key(KeyContext({"a": "b"})))


@scenario(TypeError)
def copy_a_root_key(given) -> None:
    copy.copy(decode_root_key(ROOT_KEY))


@scenario(ValueError)
def make_a_data_key_of_another_length(given) -> None:
    DataKey("id", "keys", PLAINTEXT.encode())


# Columns.


@scenario(Exception)
def encrypt_a_column_while_the_vault_has_a_bug(given) -> None:
    Legacy.objects.create(organization=given.organization, text="x", data=[1])
    given.execute("UPDATE testapp_legacy SET text = %s", PLAINTEXT)
    with vaults["default"].fail_with(RuntimeError("a bug")):
        encrypt_column(Legacy._meta.get_field("text"))


@scenario(Exception)
def decrypt_a_column_while_the_vault_has_a_bug(given) -> None:
    Legacy.objects.create(organization=given.organization, text=PLAINTEXT, data=[PLAINTEXT])
    vaults.purge()
    with vaults["default"].fail_with(RuntimeError("a bug")):
        decrypt_column(Legacy._meta.get_field("text"))


# Vaults, and what they are made of.


@scenario(ImproperlyConfigured)
def a_backend_that_is_a_url(given) -> None:
    with override_settings(VAULTS={"default": {"BACKEND": f"workos://:{API_KEY}@api.workos.com"}}):
        _ = vaults["default"]


@scenario(ImproperlyConfigured)
def a_backend_that_is_a_token(given) -> None:
    with override_settings(VAULTS={"default": {"BACKEND": API_KEY}}):
        _ = vaults["default"]


@scenario(ImproperlyConfigured)
def a_vault_that_is_a_url(given) -> None:
    with override_settings(VAULTS={"default": f"workos://:{API_KEY}@api.workos.com"}):
        _ = vaults["default"]


@scenario(ImproperlyConfigured)
def vaults_that_are_a_url(given) -> None:
    with override_settings(VAULTS=f"workos://:{API_KEY}@api.workos.com"):
        list(vaults)


@scenario(ImproperlyConfigured)
def an_option_that_is_a_key(given) -> None:
    WorkOSVault(api_key="sk", timeout=API_KEY)


@scenario(ImproperlyConfigured)
def an_option_of_the_embedded_vault_that_is_a_key(given) -> None:
    LocalVault(path=given.path / "v.sqlite3", root_key=ROOT_KEY, unwrap=API_KEY)


@scenario(ImproperlyConfigured)
def an_option_that_is_a_root_key(given) -> None:
    LocalVault(path=given.path / "v.sqlite3", record_key_events=ROOT_KEY)


@scenario(ImproperlyConfigured)
def options_that_do_not_fit(given) -> None:
    entry = {
        "BACKEND": "vault_fields.backends.workos.WorkOSVault",
        "OPTIONS": {"api_key": API_KEY, "nonsense": API_KEY},
    }
    with override_settings(VAULTS={"default": entry}):
        _ = vaults["default"]


@scenario(ImproperlyConfigured)
def a_url_that_cannot_be_used(given) -> None:
    vault_config(f"workos://:{API_KEY}@api.workos.com?timeout={API_KEY}")


@scenario(ImproperlyConfigured)
def an_api_key_with_spaces(given) -> None:
    WorkOSVault(api_key=f" {API_KEY} ")


@scenario(ImproperlyConfigured)
def a_successor_that_is_not_there(given) -> None:
    entry = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": API_KEY}, "SUCCESSOR": "x"}
    with override_settings(VAULTS={"default": entry}):
        vaults.writer("default")


@scenario(VaultUnavailable)
def a_keystore_that_is_not_there(given) -> None:
    with closing(LocalVault(path=given.path / "gone.sqlite3", root_key=ROOT_KEY)) as vault:
        vault.create_data_key(KeyContext({"a": "b"}))


@scenario(ImproperlyConfigured)
def a_root_key_of_another_keystore(given) -> None:
    _local(given).close()
    with closing(LocalVault(path=given.path / "v.sqlite3", root_key=generate_root_key())) as vault:
        vault.create_data_key(KeyContext({"a": "b"}))


def _local(given):
    vault = LocalVault(path=given.path / "v.sqlite3", root_key=ROOT_KEY)
    vault.service.create_keystore()
    return vault


@scenario(VaultRefused)
def encrypted_keys_that_do_not_open(given) -> None:
    with closing(_local(given)) as vault:
        key = vault.create_data_key(KeyContext({"a": "b", "c": "d"}))
        other = vault.create_data_key(KeyContext({"a": "b", "c": "d"}))
        given.secrets += [key.plaintext, other.plaintext]
        vault.purge()
        half = len(key.encrypted_keys) // 2
        vault.decrypt_data_key(key.encrypted_keys[:half] + other.encrypted_keys[half:])


@scenario(RuntimeError)
def many_keys_of_which_one_meets_a_bug(given) -> None:
    vault = WorkOSVault(api_key=API_KEY, max_concurrency=1)
    answered = []

    def answer(encrypted_keys, deadline):
        if answered:
            raise RuntimeError("a bug")
        answered.append(encrypted_keys)
        return DataKey("id", encrypted_keys, next(iter(given.data_keys)))

    vault._decrypt = answer
    vault.decrypt_data_keys(dict.fromkeys(["a", "b", "c"]))


@scenario(VaultRefused)
def a_blob_that_is_none(given) -> None:
    with closing(_local(given)) as vault:
        vault.create_data_key(KeyContext({"a": "b"}))
        vault.decrypt_data_key("bm90aGluZw==")


@scenario(ValueRefused)
def an_object_that_cannot_be_stored(given) -> None:
    with closing(_local(given)) as vault:
        StoredObjects(vault.service).create("name", f"{PLAINTEXT}\ud800", {"a": "b"})


@scenario(Exception)
def an_object_that_was_altered(given) -> None:
    import sqlite3

    with closing(_local(given)) as vault:
        objects = StoredObjects(vault.service)
        stored = objects.create("name", PLAINTEXT, {"a": "b"})
        with closing(sqlite3.connect(given.path / "v.sqlite3")) as keystore, keystore:
            keystore.execute("UPDATE object_version SET sealed = zeroblob(60)")
        objects.read(stored.id)


@scenario(Exception)
def an_object_of_which_nobody_has_the_key(given) -> None:
    with closing(_local(given)) as vault:
        objects = StoredObjects(vault.service)
        stored = objects.create("name", PLAINTEXT, {"a": "b"})
        vault.service.disable("a", "b")
        objects.update(stored.id, OTHER)


def _served(reply):
    def fail(given) -> None:
        with faulty_server() as server:
            server.usual = reply
            vault = WorkOSVault(api_key=API_KEY, base_url=server.url, max_retries=0)
            try:
                vault.create_data_key(KeyContext({"a": "b"}))
            finally:
                vault.close()

    return fail


def _admin(**attributes):
    site = AdminSite()
    admin = type("Admin", (EncryptedFieldsMixin, ModelAdmin), attributes)(Patient, site)
    all_sites.discard(site)
    return admin


def _failing(*args, **kwargs) -> Never:
    raise ZeroDivisionError


@scenario(ZeroDivisionError)
def a_form_of_the_admin_that_the_project_cleans(given) -> None:
    form = _admin(form=type("Form", (ModelForm,), {"clean": _failing})).get_form(None, given.first, fields=["ssn"])
    form({"ssn": OTHER}, instance=given.first).is_valid()


@scenario(ZeroDivisionError)
def a_widget_of_the_admin(given) -> None:
    given.execute("UPDATE testapp_patient SET ssn_keys = NULL")
    widget = type("Widget", (Textarea,), {"render": _failing})
    form = type("Form", (ModelForm,), {"ssn": CharField(widget=widget)})
    opened = _admin(form=form).get_form(None, given.first, fields=["ssn"])
    str(opened({"ssn": OTHER, "ssn-replace": "1"}, instance=given.load()))


@scenario(ZeroDivisionError)
def a_column_of_the_admin(given) -> None:
    Cell(lambda patient: len(patient.ssn) and _failing(), Patient, _admin())(given.load())


for _name, _reply in {
    "refuses_the_key": Reply(status=401, content={"error": API_KEY}),
    "is_away": Reply(status=503),
    "breaks_off": Reply(reset_after=9),
    "answers_nonsense": Reply(raw=PLAINTEXT.encode()),
}.items():
    _function = _served(_reply)
    _function.__name__ = f"a_server_that_{_name}"
    scenario(VaultError)(_function)


@scenario(VaultError)
def a_server_that_is_away_from_coroutines(given) -> None:
    async def ask() -> None:
        with faulty_server() as server:
            server.usual = Reply(status=503)
            vault = WorkOSVault(api_key=API_KEY, base_url=server.url, max_retries=0)
            await vault.adecrypt_data_key("bm90aGluZw==", None)

    asyncio.run(ask())


# Commands.


def _configure(given, secret) -> None:
    entry = {
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {"path": given.path / "v.sqlite3", "root_key": ROOT_KEY},
    }
    _local(given).close()
    with override_settings(VAULTS={"default": entry}):
        call_command("vault_byok", "configure", "a=b", "--provider=file", f"--set={secret}")


@scenario(CommandError)
def a_setting_of_a_provider_that_is_a_secret(given) -> None:
    _configure(given, API_KEY)


@scenario(CommandError)
def a_setting_of_a_provider_that_is_a_root_key(given) -> None:
    _configure(given, ROOT_KEY)


@scenario(CommandError)
def an_item_that_is_an_api_key(given) -> None:
    _local(given).close()
    call_command("vault_kek", "rotate", API_KEY)


@scenario(ImproperlyConfigured)
def a_path_that_is_a_root_key(given) -> None:
    LocalVault("default", path=ROOT_KEY)


@scenario(ImproperlyConfigured)
def a_policy_that_is_a_root_key(given) -> None:
    LocalVault("default", path=given.path / "v.sqlite3", unwrap=ROOT_KEY)


@scenario(ValueError)
def a_kind_of_provider_that_is_an_api_key(given) -> None:
    build_provider(API_KEY, {})


@pytest.mark.usefixtures("named_by_values")
@pytest.mark.parametrize("debug", [False, True], ids=["", "DEBUG"])
@pytest.mark.parametrize(("fail", "expected"), SCENARIOS)
def test_nothing_that_an_exception_carries_has_a_secret_in_it(given, fail, expected, debug) -> None:
    with override_settings(DEBUG=debug), pytest.raises(expected) as caught:
        fail(given)
    assert leaks(caught.value, given.secrets) == []


def test_no_message_of_a_form_repeats_the_value() -> None:
    with isolate_apps("tests.testapp"):

        class Choosy(models.Model):
            tenant = models.CharField(max_length=9, default="t")
            ssn = EncryptedTextField(key_context=["tenant"], choices=[("a", "A")])
            data = EncryptedJSONField(key_context=["tenant"], choices=[("[]", "none")])

            class Meta:
                app_label = "testapp"

        with pytest.raises(ValidationError) as caught:
            Choosy(ssn=PLAINTEXT, data=[PLAINTEXT]).full_clean()
    expected = ["Select a valid choice. That choice is not one of the available choices."]
    assert caught.value.message_dict == {"ssn": expected, "data": expected}
    assert [each.params for errors in caught.value.error_dict.values() for each in errors] == [None, None]


# The mechanism itself.


@forgetful
def _fails(secret):
    return _inner(secret)


def _inner(secret) -> None:
    try:
        json.loads(secret)
    except ValueError:
        raise VaultRefused("refused") from None


def test_what_is_left_of_a_call_is_where_it_was() -> None:
    def ours(secret):
        return json.loads(secret)

    namespace = {"__name__": "vault_fields.example", "json": json}
    ours = forgetful(type(ours)(ours.__code__, namespace))
    with pytest.raises(ValueError) as caught:
        ours(PLAINTEXT)
    frames = list(our_frames(caught.value.__traceback__))
    assert [place.partition(":")[0] for place, _ in frames] == [
        "vault_fields.runtime.frames.wrapper",
        "vault_fields.example.ours",
        "json.loads",
        "json.decoder.decode",
        "json.decoder.raw_decode",
    ]
    assert [list(variables) for _, variables in frames] == [["function"], [], [], [], []]


def test_an_error_that_nobody_is_shown_goes() -> None:
    with pytest.raises(VaultRefused) as caught:
        _fails(PLAINTEXT)
    assert list(chain(caught.value)) == [caught.value]


def test_causes_and_groups_are_emptied_too() -> None:
    @forgetful
    def fail() -> None:
        try:
            _ours(PLAINTEXT)
        except ZeroDivisionError as error:
            raise ExceptionGroup("both", [error, ValueError()]) from error

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    assert leaks(caught.value, SECRETS) == []


_namespace = {"__name__": "vault_fields.example"}
exec("def _ours(secret): return 1 / 0", _namespace)
_ours = _namespace["_ours"]


def test_frames_of_the_project_are_left_as_they_are() -> None:
    def project(text):
        return _ours(text)

    with pytest.raises(ZeroDivisionError) as caught:
        forgetful(project)("what I had")
    assert caught.traceback[-2].frame.f_locals == {"text": "what I had"}
    assert caught.traceback[-1].frame.f_locals == {}


def test_what_was_being_handled_before_is_left_as_it_was() -> None:
    def before(text):
        return json.loads(text)

    try:
        before("what I had")
    except ValueError:
        with pytest.raises(ZeroDivisionError) as caught:
            forgetful(_ours)(PLAINTEXT)
    context = caught.value.__context__
    assert isinstance(context, ValueError)
    assert context.__traceback__.tb_next.tb_frame.f_locals == {"text": "what I had"}
    assert context.__traceback__.tb_next.tb_next.tb_frame.f_locals["s"] == "what I had"


def test_generators_and_coroutines_are_forgetful_too() -> None:
    @forgetful
    def generate(secret):
        yield 1
        yield _ours(secret)

    @forgetful
    async def ask(secret):
        return _ours(secret)

    found = []
    with pytest.raises(ZeroDivisionError) as caught:
        found += generate(PLAINTEXT)
    assert leaks(caught.value, SECRETS) == []
    with pytest.raises(ZeroDivisionError) as caught:
        asyncio.run(ask(PLAINTEXT))
    assert leaks(caught.value, SECRETS) == []


def test_what_returns_is_as_before() -> None:
    @forgetful
    def generate():
        yield 1
        return 2

    @forgetful
    async def ask(number):
        return number

    def both():
        yield (yield from generate())

    assert list(both()) == [1, 2]
    assert asyncio.run(ask(3)) == 3
    assert asyncio.iscoroutinefunction(ask)


def test_methods_of_a_class_are_forgetful_that_others_call() -> None:
    @forgetful_class
    class Ours:
        limit = 3

        def __init__(self, secret):
            _ours(secret)

        def public(self) -> None: ...

        def _private(self) -> None: ...

    with pytest.raises(ZeroDivisionError) as caught:
        Ours(PLAINTEXT)
    assert leaks(caught.value, SECRETS) == []
    assert hasattr(Ours.public, "__wrapped__")
    assert not hasattr(Ours._private, "__wrapped__")


def test_a_frame_that_still_runs_is_left() -> None:
    def running(secret):
        try:
            _ours(secret)
        except ZeroDivisionError as error:
            return secret, forget(error)

    secret, error = running(PLAINTEXT)
    assert secret == PLAINTEXT
    assert leaks(error, SECRETS) == []


@pytest.mark.parametrize("rows", [("values", "ssn"), ("values_list", "ssn", "notes"), ("annotate",)])
def test_not_even_the_frames_of_django_have_the_rows_of_other_tenants(given, rows) -> None:
    given.move(Patient, given.organization, given.second.pk)
    name, *columns = rows
    query = getattr(Patient.objects.order_by("pk"), name)(*columns, **({} if columns else {"copied": F("ssn")}))
    with pytest.raises(KeyContextMismatch) as caught:
        list(query)
    frames = [frame.frame for frame in caught.traceback if frame.frame.raw.f_globals["__name__"].startswith("django.")]
    assert frames
    for frame in frames:
        local = [value for key, value in frame.f_locals.items() if key != "self"]
        assert not holds(local, (PLAINTEXT, *(key.hex() for key in given.data_keys)))
