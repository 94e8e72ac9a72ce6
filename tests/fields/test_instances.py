"""What lives in an instance: pickles, copies, caches, threads, coroutines - and where plaintext must not appear."""

import asyncio
import copy
import gc
import pickle
import threading
from unittest import mock

import pytest
from django.core.cache import cache
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.forms.models import model_to_dict
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from tests.testapp.models import Document, Legacy, Letter, Organization, Patient
from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyRevoked,
    PlaintextFound,
    ValueRefused,
    VaultUnavailable,
)
from vault_fields.fields import EncryptedTextField, aopen
from vault_fields.fields.batch import Batch
from vault_fields.stored import companion as companion_format
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


def fresh(instance):
    return type(instance).objects.get(pk=instance.pk)


def test_a_pickle_holds_ciphertext_and_opens_again(patient) -> None:
    loaded = fresh(patient)
    assert loaded.ssn == "123-45-6789"
    data = pickle.dumps(loaded)
    assert b"123-45" not in data
    restored = pickle.loads(data)
    with assert_vault_calls(decrypt=1, cold=True):
        assert (restored.ssn, restored.history) == ("123-45-6789", [1])
    with assert_vault_calls():
        restored.save()


def test_a_pickled_row_that_was_just_saved_can_be_saved_again(organization) -> None:
    row = pickle.loads(pickle.dumps(Patient.objects.create(organization=organization, ssn="x", history=[1])))
    row.save(update_fields=["ssn"])
    assert (row.ssn, fresh(row).ssn) == ("x", "x")


def test_a_value_that_was_not_saved_is_not_pickled(patient) -> None:
    loaded = fresh(patient)
    loaded.ssn = "unsaved"
    with pytest.raises(TypeError, match="save it first"):
        pickle.dumps(loaded)


def test_a_value_changed_in_place_is_not_lost_by_pickling(patient) -> None:
    loaded = fresh(patient)
    loaded.history.append(2)
    with pytest.raises(TypeError, match="changed in place"):
        pickle.dumps(loaded)


def test_querysets_can_be_cached(patient) -> None:
    cache.set("patients", Patient.objects.all())
    assert [row.ssn for row in cache.get("patients")] == ["123-45-6789"]


def test_copies_are_independent(patient) -> None:
    loaded = fresh(patient)
    loaded.ssn = "unsaved"
    assert loaded.history == [1]
    for duplicate in (copy.copy(loaded), copy.deepcopy(loaded)):
        assert (duplicate.ssn, duplicate.history) == ("unsaved", [1])
    deep = copy.deepcopy(loaded)
    deep.history.append(2)
    assert loaded.history == [1]
    deep.save()
    assert (fresh(patient).ssn, fresh(patient).history) == ("unsaved", [1, 2])
    sealed = fresh(patient).__dict__["ssn"]
    assert copy.copy(sealed).text == copy.deepcopy(sealed).text == sealed.text


def test_what_instances_hold_is_compared_without_a_key(organization) -> None:
    """As by packages that compare the ``__dict__`` of an instance with that of its past."""

    def held(row, name="ssn"):
        return row.__dict__[name]

    row = Patient(organization=organization, ssn="a", history=[1])
    before = dict(row.__dict__)
    assert held(row) == held(Patient(ssn="a"))
    assert held(row) != held(Patient(ssn="b"))
    row.save()
    with assert_vault_calls(cold=True):
        assert before["ssn"] == held(row)
        assert before["history"] == held(row, "history")
        assert held(Patient(ssn="b")) != held(row)
        assert held(row) == held(fresh(row))
        assert before["ssn"] != held(fresh(row))  # Nobody knows, without a key.
    assert held(row) != "a"
    assert before["ssn"] != "a"
    with pytest.raises(TypeError, match="unhashable"):
        hash(before["ssn"])


def test_nothing_that_is_printed_holds_plaintext(patient) -> None:
    loaded = fresh(patient)
    assert loaded.ssn == "123-45-6789"
    loaded.history = {"secret": "hidden"}
    printed = repr(loaded.__dict__) + repr(loaded) + repr(loaded.__dict__["ssn"].opened)
    assert "123-45" not in printed
    assert "hidden" not in printed


def shown(error):
    """What Django's error report shows of the variables in this package's frames, with DEBUG off."""
    reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error, error.__traceback__)
    frames = [frame for frame in reporter.get_traceback_frames() if "/vault_fields/" in frame["filename"]]
    assert frames
    return repr([frame["vars"] for frame in frames]) + str(error)


def test_no_error_report_shows_plaintext(patient, execute, monkeypatch) -> None:
    loaded = fresh(patient)
    loaded.ssn, loaded.history = "hidden", {"k": "hidden"}
    with monkeypatch.context() as patch:
        patch.setattr("vault_fields.stored.cipher.os.urandom", lambda size: 1 / 0)
        with pytest.raises(ZeroDivisionError) as caught, transaction.atomic():
            loaded.save()
    assert "hidden" not in shown(caught.value)
    loaded.history = {"hidden"}
    with pytest.raises(ValueRefused) as caught, transaction.atomic():
        loaded.save()
    assert "hidden" not in shown(caught.value)
    execute("UPDATE testapp_patient SET ssn = 'hidden'")
    with pytest.raises(PlaintextFound) as caught:
        fresh(patient).ssn  # noqa: B018
    assert "hidden" not in shown(caught.value)


def test_model_to_dict_gives_plaintext_and_no_companion(patient) -> None:
    values = model_to_dict(fresh(patient))
    assert values["ssn"] == "123-45-6789"
    assert not {"ssn_keys", "history_keys"} & values.keys()


def test_the_class_attribute_is_the_descriptor() -> None:
    assert Patient.ssn.field is Patient._meta.get_field("ssn")
    assert isinstance(Patient.ssn.field, EncryptedTextField)


@pytest.mark.django_db(transaction=True)
def test_fifty_threads_that_read_one_cold_row_are_one_call() -> None:
    organization = Organization.objects.create(workos_id="org_threads")
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789", history=None)
    rows = [fresh(patient) for _ in range(50)]
    barrier, read = threading.Barrier(50), []

    def touch(row) -> None:
        barrier.wait()
        read.append(row.ssn)

    with assert_vault_calls(decrypt=1, cold=True):
        threads = [threading.Thread(target=touch, args=[row]) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == ["123-45-6789"] * 50


@pytest.mark.django_db(transaction=True)
def test_threads_that_save_and_read_different_rows_never_see_each_others_values() -> None:
    if connection.vendor == "sqlite":
        # An in-memory database is shared by the threads of a process through one connection.
        assert connection.is_in_memory_db()
    organization = Organization.objects.create(workos_id="org_threads")
    failures = []

    def work(number) -> None:
        try:
            for turn in range(10):
                value = f"{number}/{turn}"
                row = Patient(organization=organization, ssn=value, history=[value])
                assert row.ssn == value
                from vault_fields.fields.saving import prepare_rows

                prepare_rows([row], Patient, "default")
                stored = pickle.loads(pickle.dumps(row))
                assert (stored.ssn, stored.history) == (value, [value])
        except AssertionError as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_coroutine_may_not_wait_for_the_vault_and_need_not(patient) -> None:
    row, other = fresh(patient), fresh(patient)

    async def read() -> bool:
        with pytest.raises(SynchronousOnlyOperation, match=r"aopen"):
            row.ssn  # noqa: B018
        return True

    with assert_vault_calls(cold=True):
        assert asyncio.run(read())

    async def opened():
        await aopen([row, other])
        return row.ssn, other.history

    with assert_vault_calls(decrypt=1):
        assert asyncio.run(opened()) == ("123-45-6789", [1])


def test_only_the_named_fields_are_opened(organization) -> None:
    Document.objects.create(organization=organization, body="b")
    row = Patient.objects.create(organization=organization, ssn="s", history=[1])
    loaded = Patient.objects.defer("notes").get(pk=row.pk)
    asyncio.run(aopen([loaded], "ssn"))
    assert loaded.__dict__["ssn"].opened.value == "s"
    assert loaded.__dict__["history"].opened is None
    asyncio.run(aopen([loaded]))
    assert loaded.__dict__["history"].opened.value == [1]
    assert "notes" not in loaded.__dict__


def test_a_lost_companion_is_an_error_and_never_plaintext(patient, execute) -> None:
    execute("UPDATE testapp_patient SET ssn_keys = NULL")
    for read in (
        lambda: fresh(patient).ssn,
        lambda: Patient.objects.values_list("ssn").get(),
        lambda: Patient.objects.only("ssn").get().ssn,
    ):
        with pytest.raises(EnvelopeError, match=r"companion 'ssn_keys' is empty"):
            read()


def test_a_refused_key_names_field_and_row_wherever_it_is_needed(patient) -> None:
    vault = vaults["default"]
    loaded, changed = fresh(patient), fresh(patient)
    vault.revoke("organization_id", str(loaded.organization_id))
    vault.purge()
    try:
        with pytest.raises(KeyRevoked, match=r"VAULTS\['default'\]: testapp.Patient.ssn \(pk=\d+\)"):
            loaded.ssn  # noqa: B018
        changed.ssn = "new"
        with pytest.raises(KeyRevoked, match=r"testapp.Patient.ssn \(pk=\d+\)"), transaction.atomic():
            changed.save()
        with pytest.raises(KeyRevoked, match=r"testapp.Patient.ssn \(pk=None\)"), transaction.atomic():
            Patient.objects.create(organization_id=loaded.organization_id, ssn="x")
    finally:
        vault.restore("organization_id", str(loaded.organization_id))
    assert loaded.ssn == "123-45-6789"
    changed.save()
    assert fresh(patient).ssn == "new"


def test_an_outage_is_an_error_and_is_not_saved_as_nothing(patient, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys")
    vault = vaults["default"]
    loaded = fresh(patient)
    vault.purge()
    with vault.fail_with(VaultUnavailable("down")):
        with pytest.raises(VaultUnavailable, match="down"):
            loaded.ssn  # noqa: B018
        with pytest.raises(VaultUnavailable):
            Patient.objects.values_list("ssn").get()
        loaded.save()
    assert stored(patient, "ssn", "ssn_keys") == before
    assert loaded.ssn == "123-45-6789"


def test_without_a_cache_every_read_asks_and_a_page_read_at_once_still_asks_once(organization, settings) -> None:
    settings.VAULTS = {
        "default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": {"key_max_age": 0}}
    }
    for n in range(3):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    with assert_vault_calls(decrypt=3):
        assert [row.ssn for row in Patient.objects.order_by("pk")] == ["0", "1", "2"]
    with assert_vault_calls(decrypt=3):
        assert list(Patient.objects.order_by("pk").values_list("ssn", flat=True)) == ["0", "1", "2"]


@pytest.mark.parametrize("options", [{}, {"key_max_age": 0}, {"max_cached_keys": 1}])
def test_whoever_iterates_slowly_keeps_no_key_beyond_a_purge(
    organization, other_organization, settings, options
) -> None:
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": options}}
    for n in range(4):
        owner = other_organization if n == 1 else organization
        Patient.objects.create(organization=owner, ssn=str(n), history=None)
    vaults["default"].purge()
    values = Patient.objects.order_by("pk").values_list("ssn", flat=True).iterator()
    assert next(values) == "0"
    vaults["default"].revoke("organization_id", str(organization.pk))
    assert next(values) == "1"
    with pytest.raises(KeyRevoked):
        next(values)


@pytest.mark.parametrize("options", [{}, {"key_max_age": 0}, {"max_cached_keys": 1}])
def test_whoever_iterates_slowly_keeps_no_key_beyond_its_age(organization, settings, options, monkeypatch) -> None:
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": options}}
    for n in range(4):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    vault = vaults["default"]
    vault.purge()
    values = Patient.objects.order_by("pk").values_list("ssn", flat=True).iterator()
    with assert_vault_calls(decrypt=4):
        assert [next(values), next(values)] == ["0", "1"]
    later = vault.cache.now() + 61
    monkeypatch.setattr(vault.cache, "_clock", lambda: later)
    with assert_vault_calls(decrypt=2):
        assert list(values) == ["2", "3"]


def test_a_batch_is_no_larger_than_the_cache(organization, settings) -> None:
    settings.VAULTS = {
        "default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": {"max_cached_keys": 2}}
    }
    for n in range(6):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    with assert_vault_calls(decrypt=6, cold=True):
        assert sorted(row.ssn for row in Patient.objects.order_by("pk")) == list("012345")


def test_a_malformed_companion_does_not_stand_in_the_way_of_the_other_rows(patient, execute) -> None:
    other = Patient.objects.create(organization=fresh(patient).organization, ssn="other")
    execute("UPDATE testapp_patient SET ssn_keys = 'malformed' WHERE id = %s", other.pk)
    first, second = Patient.objects.order_by("pk")
    vaults["default"].purge()
    assert first.ssn == "123-45-6789"
    with pytest.raises(EnvelopeError, match=r"testapp.Patient.ssn \(pk=\d+\): the companion is not JSON"):
        second.ssn  # noqa: B018


def test_value_and_companion_of_different_writes_are_told_apart(patient, execute) -> None:
    loaded = fresh(patient)
    other = Patient.objects.create(organization=loaded.organization, ssn="other")
    execute("UPDATE testapp_patient SET ssn_keys = %s", other.ssn_keys)
    with pytest.raises(EnvelopeError, match="written with different data keys"):
        fresh(patient).ssn  # noqa: B018


def test_the_keys_of_a_vault_that_is_gone_are_named(patient, execute, settings) -> None:
    keys = fresh(patient).ssn_keys.replace('"vault":"default"', '"vault":"gone"')
    execute("UPDATE testapp_patient SET ssn_keys = %s", keys)
    with pytest.raises(DecryptionError, match=r"in the vault 'gone', which settings.VAULTS does not name"):
        fresh(patient).ssn  # noqa: B018


def test_a_companion_with_another_context_does_not_prove_itself(patient, execute, other_organization) -> None:
    from vault_fields.stored import companion

    decoded = companion.decode(fresh(patient).ssn_keys)
    forged = companion.encode(
        companion.Companion(
            decoded.vault,
            decoded.key_id,
            decoded.encrypted_keys,
            decoded.context,
            {"organization_id": str(other_organization.pk)},
            decoded.proof,
        )
    )
    execute("UPDATE testapp_patient SET ssn_keys = %s, organization_id = %s", forged, other_organization.pk)
    loaded = fresh(patient)
    with pytest.raises(DecryptionError, match="companion does not belong to its data key"):
        loaded.ssn  # noqa: B018
    loaded.ssn = "new"
    loaded.notes = loaded.history = None
    loaded.save()
    assert fresh(patient).ssn == "new"


def test_plaintext_is_an_error_unless_the_column_is_migrating(organization, patient, execute) -> None:
    execute("UPDATE testapp_patient SET ssn = 'legacy', ssn_keys = NULL")
    with pytest.raises(PlaintextFound, match="migrating=True") as caught:
        fresh(patient).ssn  # noqa: B018
    assert "legacy" not in str(caught.value)
    with pytest.raises(PlaintextFound):
        Patient.objects.values_list("ssn").get()
    row = fresh(patient)
    row.name = "n"
    advice = r"save\(update_fields=\[…\]\) writes the other columns"
    with pytest.raises(PlaintextFound, match=advice), transaction.atomic():
        row.save()
    row.save(update_fields=["name"])
    assert fresh(patient).name == "n"
    Legacy.objects.create(organization=organization, text="x", data=None)
    execute("""UPDATE testapp_legacy SET text = 'legacy', text_keys = NULL, data = '{"a": [1]}', data_keys = NULL""")
    row = Legacy.objects.get()
    assert (row.text, row.data) == ("legacy", {"a": [1]})
    assert Legacy.objects.values_list("text", "data").get() == ("legacy", {"a": [1]})
    row.save()
    assert row.__dict__["text"].text.startswith("$vf$1$")
    assert (fresh(row).text, fresh(row).data) == ("legacy", {"a": [1]})


def test_old_code_that_writes_plaintext_into_an_encrypted_row_is_read_while_migrating(organization, execute) -> None:
    Legacy.objects.create(organization=organization, text="x", data=[1])
    execute("UPDATE testapp_legacy SET text = 'written by old code'")
    row = Legacy.objects.get()
    assert (row.text, row.data) == ("written by old code", [1])
    row.save()
    assert (fresh(row).text, fresh(row).data) == ("written by old code", [1])


def test_json_that_is_no_json_says_so_without_showing_it(organization, execute) -> None:
    Legacy.objects.create(organization=organization)
    execute("UPDATE testapp_legacy SET data = 'hidden'")
    with pytest.raises(DecryptionError, match=r"testapp.Legacy.data \(pk=\d+\): the value is not JSON") as caught:
        Legacy.objects.get().data  # noqa: B018
    assert "hidden" not in str(caught.value)


def test_json_nested_too_deeply_says_so(organization, execute) -> None:
    Legacy.objects.create(organization=organization)
    execute("UPDATE testapp_legacy SET data = %s", "[" * 200_000 + "]" * 200_000)
    with pytest.raises(DecryptionError, match="not JSON, or nested too deeply"):
        Legacy.objects.get().data  # noqa: B018


def test_a_purge_drops_keys_whose_companion_was_altered(patient, execute) -> None:
    real = fresh(patient)
    keys = real.ssn_keys.replace(f'"organization_id":"{real.organization_id}"', '"organization_id":"999"', 1)
    execute("UPDATE testapp_patient SET ssn_keys = %s", keys)
    vault = vaults["default"]
    vault.purge()
    with pytest.raises(DecryptionError, match="does not belong to its data key"):
        fresh(patient).ssn  # noqa: B018
    assert len(vault.cache) == 1
    assert vault.purge({"organization_id": str(real.organization_id)}) == 1
    assert fresh(patient).history == [1]
    assert vault.purge({"organization_id": "999"}) == 0
    assert vault.purge({"organization_id": str(real.organization_id)}) == 1


def test_a_value_too_long_for_the_server_is_not_read_as_nothing(patient, execute) -> None:
    if connection.vendor != "mysql":
        # Only MySQL and MariaDB bound what an expression may give.
        return
    envelope = fresh(patient).__dict__["ssn"].text.rpartition("$")[0]
    execute(f"UPDATE testapp_patient SET ssn = CONCAT('{envelope}$', REPEAT('A', @@max_allowed_packet - 100))")
    for read in (lambda: Patient.objects.values_list("ssn").get(), lambda: Patient.objects.only("ssn").get()):
        with pytest.raises(EnvelopeError, match="too long to be selected like this"):
            read()


def test_a_stored_control_character_is_not_taken_for_what_a_query_adds(organization, execute) -> None:
    Legacy.objects.create(organization=organization)
    execute("UPDATE testapp_legacy SET text = %s", "\x1evx")
    assert Legacy.objects.get().text == "\x1evx"


def test_the_value_of_a_null_row_stays_null(organization) -> None:
    letter = Letter.objects.create(organization=organization)
    assert letter.vault_keys is None
    assert fresh(letter).subject is None
    letter = fresh(letter)
    letter.text = []
    letter.save()
    assert fresh(letter).text == []


def test_the_parts_of_an_instance_copy_one_by_one(patient) -> None:
    loaded = fresh(patient)
    loaded.ssn = "x"
    pending = copy.copy(loaded.__dict__["ssn"])
    assert (pending.value, pending.previous) == ("x", loaded.__dict__["ssn"].previous)
    assert repr(pending) == "<value that is encrypted when the instance is saved: read it as the instance's attribute>"


def test_rows_that_the_caller_dropped_are_not_asked_for(organization) -> None:
    for n in range(3):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    rows = list(Patient.objects.raw("SELECT * FROM testapp_patient ORDER BY id"))
    del rows[1]
    gc.collect()
    with assert_vault_calls(decrypt=2, cold=True):
        assert [row.ssn for row in rows] == ["0", "2"]


def test_rows_that_are_opened_together_ask_again_for_what_there_was_no_time_for(organization) -> None:
    """As `values()` and the commands do, with more keys than the Vault answers within one deadline."""
    rows = [Patient.objects.create(organization=organization, ssn=str(number)) for number in range(6)]
    vault = vaults["default"]
    vault.purge()
    real = vault._decrypt_many

    def two_at_a_time(names, deadline):
        late = {name: VaultUnavailable("late") for name in names[2:]}
        return real(names[:2], deadline) | late

    with mock.patch.object(vault, "_decrypt_many", two_at_a_time), assert_vault_calls(decrypt=6):
        assert sorted(Patient.objects.values_list("ssn", flat=True)) == [str(number) for number in range(len(rows))]


def test_rows_that_are_opened_together_do_not_ask_again_where_nothing_was_answered(organization) -> None:
    for number in range(3):
        Patient.objects.create(organization=organization, ssn=str(number))
    vault, asked = vaults["default"], []
    vault.purge()

    def away(names, deadline):
        asked.append(len(names))
        return {name: VaultUnavailable("away") for name in names}

    texts = list(Patient.objects.values_list("ssn_keys", flat=True))
    batch = Batch(texts, hold=True)
    with mock.patch.object(vault, "_decrypt_many", away):
        for text in texts:
            with pytest.raises(VaultUnavailable):
                batch.key(companion_format.decode(text))
    assert asked == [3]
