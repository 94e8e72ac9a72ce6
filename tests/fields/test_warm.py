"""Values whose key is at hand take a short way: to the same value as the long one, which says what is wrong."""

import asyncio
import functools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import serializers
from django.db import models
from django.db.models import Model
from django.db.models.signals import post_init
from django.test.utils import isolate_apps

from tests.testapp.models import Bookmark, Branch, Organization, Patient, Token
from vault_fields.exceptions import DecryptionError, KeyContextMismatch, KeyRevoked
from vault_fields.fields import EncryptedTextField, descriptor, loading, proofs, reading
from vault_fields.fields.sealed import Brought, Pending, Sealed
from vault_fields.fields.warm import _is_where_it_was, warm_reader
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

TENANT = uuid.UUID(int=7)


@pytest.fixture
def owner() -> Organization:
    return Organization.objects.create(workos_id="org_1")


@pytest.fixture
def patient(owner: Organization) -> Patient:
    patient = Patient.objects.create(organization=owner, ssn="123", history={"a": [1]})
    assert Patient.objects.get().ssn == "123"  # Its companion is proven from now on.
    return patient


@pytest.fixture
def no_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(descriptor, "open_value", refuse)


def short(sealed: Sealed) -> str | None:
    plaintext = warm_reader(Patient._meta.get_field("ssn")).plaintext  # type: ignore[arg-type]
    return plaintext(sealed.keys, sealed.text, sealed.values, sealed.outside, sealed.batch)


def held(patient: Patient) -> Sealed:
    found = patient.__dict__["ssn"]
    assert isinstance(found, Sealed)
    return found


def test_a_value_whose_key_is_at_hand_takes_the_short_way(patient: Patient, no_long_way: None) -> None:
    loaded = Patient.objects.get()
    assert [loaded.ssn, loaded.ssn] == ["123", "123"]


def test_rows_of_two_columns_and_with_bound_values_take_it_too(
    owner: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bookmark.objects.create(organization=owner, region="eu", slug="s", url="https://a")
    assert Bookmark.objects.get().url == "https://a"
    # The text that the query gives for the row's columns is known from the second row on.
    Bookmark.objects.create(organization=owner, region="eu", slug="s", url="https://b")
    monkeypatch.setattr(descriptor, "open_value", None)
    first = Bookmark.objects.earliest("pk")
    assert first.url == "https://a"
    assert list(Bookmark.objects.order_by("pk").values_list("url", flat=True)) == ["https://a", "https://b"]


def test_a_row_that_was_moved_is_refused_though_its_companion_is_proven(patient: Patient) -> None:
    other = Organization.objects.create(workos_id="org_2")
    with_other = Patient.objects.get()
    held(with_other).values = (other.pk,)
    with pytest.raises(KeyContextMismatch):
        with_other.ssn  # noqa: B018


def test_a_row_of_another_column_of_two_is_refused(owner: Organization) -> None:
    Bookmark.objects.create(organization=owner, region="eu", slug="s", url="https://a")
    assert Bookmark.objects.get().url == "https://a"
    loaded = Bookmark.objects.get()
    sealed = loaded.__dict__["url"]
    sealed.values = (sealed.values[0], "us", *sealed.values[2:])
    with pytest.raises(KeyContextMismatch):
        loaded.url  # noqa: B018


def test_a_bound_column_that_was_changed_is_refused(owner: Organization) -> None:
    Branch.objects.create(organization=owner, region="eu", secret="s")
    assert Branch.objects.get().secret == "s"
    loaded = Branch.objects.get()
    sealed = loaded.__dict__["secret"]
    sealed.values = (*sealed.values[:-1], "us")
    with pytest.raises(DecryptionError):
        loaded.secret  # noqa: B018


@pytest.mark.parametrize("altered", ["value", "companion", "other key"])
def test_what_was_tampered_with_does_not_take_the_short_way(patient: Patient, altered: str) -> None:
    sealed = held(Patient.objects.get())
    assert short(sealed) == "123"
    if altered == "value":
        sealed.text = f"{sealed.text[:-5]}AAAA="
    elif altered == "companion":
        sealed.keys = f"{sealed.keys} "
    else:
        sealed.text = sealed.text.replace("$vf$1$", "$vf$1$x")
    assert short(sealed) is None


def test_a_revoked_key_is_not_served_by_its_proof(patient: Patient) -> None:
    loaded = Patient.objects.get()
    vault: Any = vaults["default"]
    item = "organization_id", str(patient.organization_id)
    vault.revoke(*item)
    try:
        assert short(held(loaded)) is None
        with pytest.raises(KeyRevoked):
            loaded.ssn  # noqa: B018
    finally:
        vault.restore(*item)


def test_an_expired_key_is_not_served_by_its_proof(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = vaults["default"].cache
    later = cache.now() + cache.max_age
    monkeypatch.setattr(cache, "_clock", lambda: later)
    assert short(held(Patient.objects.get())) is None
    assert Patient.objects.get().ssn == "123"


def test_other_vaults_under_the_same_alias_are_not_served_by_a_proof(patient: Patient) -> None:
    sealed = held(Patient.objects.get())
    sealed.batch = None
    assert short(sealed) == "123"
    vaults.reset()
    assert short(sealed) is None


def test_a_child_process_begins_without_keys(patient: Patient) -> None:
    sealed = held(Patient.objects.get())
    proof = proofs.known_proof(sealed.keys or "")
    assert proof is not None
    assert proof.held.key is not None
    vaults["default"].cache.reset_in_child()
    assert proof.held.key is None
    assert short(sealed) is None


def test_in_an_event_loop_the_long_way_decides(patient: Patient) -> None:
    sealed = held(Patient.objects.get())

    async def ask() -> str | None:
        return short(sealed)

    assert [short(sealed), asyncio.run(ask())] == ["123", None]


def test_what_a_decoder_raises_is_told_by_the_long_way(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    field = Patient._meta.get_field("history")
    assert Patient.objects.get().history == {"a": [1]}
    calls = []

    def fail(self: object, text: str) -> None:
        calls.append(text)
        raise RuntimeError(text)

    monkeypatch.setattr(type(field), "from_plaintext", fail)
    with pytest.raises(RuntimeError) as raised:
        Patient.objects.get().history  # noqa: B018
    assert len(calls) == 2
    assert raised.value.__context__ is None
    with pytest.raises(RuntimeError):
        list(Patient.objects.values_list("history"))


def test_proofs_make_room_for_others(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = vaults["default"].cache
    monkeypatch.setattr(proofs, "LEAST_ROOM", 4)
    monkeypatch.setattr(cache, "max_keys", 4)
    known = {f"text {number}": object() for number in range(4)}
    monkeypatch.setattr(proofs, "_proofs", known)
    Patient.objects.create(organization=patient.organization, ssn="456")
    loaded = Patient.objects.get(pk=Patient.objects.latest("pk").pk)
    monkeypatch.setattr(proofs, "is_proven", lambda *args: False)
    assert loaded.ssn == "456"
    assert len(known) == 4
    assert "text 0" not in known


def test_a_long_companion_is_verified_each_time(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "LONGEST_TEXT", 10)
    other = Patient.objects.create(organization=patient.organization, ssn="456")
    loaded = Patient.objects.get(pk=other.pk)
    assert loaded.ssn == "456"
    assert proofs.known_proof(held(loaded).keys or "") is None


# How instances are made of rows.


def test_what_listens_to_new_instances_hears_of_rows(patient: Patient) -> None:
    heard = []

    def listen(sender: object, instance: Patient, **kwargs: object) -> None:
        heard.append(instance.ssn)

    post_init.connect(listen, sender=Patient)
    try:
        assert Patient.objects.get().ssn == "123"
    finally:
        post_init.disconnect(listen, sender=Patient)
    assert heard == ["123"]


def test_a_constructor_of_its_own_is_called_for_rows(owner: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    django_init = Token.__init__

    def init(self: Token, *args: object, **kwargs: object) -> None:
        made.append(args)
        django_init(self, *args, **kwargs)

    token = Token.objects.create(tenant=TENANT, secret="s")
    made.clear()
    monkeypatch.setattr(Token, "__init__", init)
    monkeypatch.setattr(loading, "_columns", type(loading._columns)())
    assert Token.objects.get(pk=token.pk).secret == "s"
    assert len(made) == 1


def test_an_attribute_of_its_own_is_assigned_to(owner: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Token.objects.create(tenant=TENANT, secret="s")
    assigned = []

    class Tenant:
        def __set__(self, instance: Token, value: str) -> None:
            assigned.append(value)
            instance.__dict__["tenant"] = value

    monkeypatch.setattr(Token, "tenant", Tenant())
    monkeypatch.setattr(loading, "_columns", type(loading._columns)())
    Token.objects.get(pk=token.pk)
    assert assigned == [TENANT]


def test_a_row_that_no_query_read_holds_what_was_assigned(owner: Organization) -> None:
    names = [field.attname for field in Patient._meta.concrete_fields]
    row = {"id": 1, "organization_id": owner.pk, "ssn": "123"}
    patient = Patient.from_db("default", names, [row.get(name) for name in names])
    assert isinstance(patient.__dict__["ssn"], Pending)
    assert [patient.ssn, patient._state.adding, patient._state.db] == ["123", False, "default"]


def test_a_row_without_encrypted_values_is_made_by_whoever_has_it(owner: Organization) -> None:
    names = [field.attname for field in Patient._meta.concrete_fields]
    row = {"id": 1, "organization_id": owner.pk}
    patient = Patient.from_db("default", names, [row.get(name) for name in names])
    assert [patient.pk, patient.ssn, patient._state.adding, patient.organization] == [1, None, False, owner]


def test_other_versions_of_django_make_instances_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "CONSTRUCTORS", set())

    class Other:
        from_db = Model.from_db

    before = Other.from_db
    loading.install_loading(Other)  # type: ignore[arg-type]
    assert Other.from_db == before


def test_where_somebody_else_converts_a_value_too_django_calls_both(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    field: Any = type(Patient._meta.get_field("ssn"))
    ours = field.get_db_converters
    seen = []

    def note(value: Any, expression: Any, connection: Any) -> Any:
        seen.append(value)
        return value

    monkeypatch.setattr(field, "get_db_converters", lambda self, connection: [*ours(self, connection), note])
    assert Patient.objects.get().ssn == "123"
    assert isinstance(seen[0], Sealed)
    assert list(Patient.objects.values_list("ssn", flat=True)) == ["123"]
    assert seen[-1] == "123"


def test_columns_of_many_tenants_are_forgotten_while_values_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        tenant = Organization.objects.create(workos_id=f"org_{number}")
        Patient.objects.create(organization=tenant, ssn=str(number))
    monkeypatch.setattr(reading, "CHUNK", 2)
    assert sorted(Patient.objects.values_list("ssn", flat=True)) == ["0", "1", "2"]


def test_a_value_that_its_field_cannot_decode_names_its_row(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Patient.objects.create(organization_id=patient.organization_id, ssn="456")
    assert len(Patient.objects.values_list("pk", "ssn")) == 2  # Both companions are proven from now on.

    def refuse(text: str) -> str:
        if text == "456":
            raise DecryptionError("it is no text of this field.")
        return text

    monkeypatch.setattr(Patient._meta.get_field("ssn"), "from_plaintext", refuse)
    with pytest.raises(DecryptionError, match=rf"Patient\.ssn \(pk={other.pk}\): it is no text of this field\."):
        list(Patient.objects.order_by("pk").values_list("pk", "ssn"))


def test_a_value_that_was_brought_is_opened_once(patient: Patient) -> None:
    """Nothing vouches for it but itself, and it takes the long way."""
    stored = serializers.serialize("python", [patient])[0]["fields"]
    row = Patient(organization_id=patient.organization_id, ssn_keys=stored["ssn_keys"], ssn=stored["ssn"])
    assert isinstance(row.__dict__["ssn"], Brought)
    assert [row.ssn, row.ssn] == ["123", "123"]


def loaded(model: Any, **attributes: Any) -> Any:
    """Return a row of an encrypted model, of the columns that a query gives."""
    sealed = Sealed("$vf$1$k$x", "companion", ("7",), loaded=True)
    columns = [field.attname for field in model._meta.concrete_fields]
    values = {"id": 1, "tenant": "7", "text": sealed, "text_keys": "companion", **attributes}
    return model.from_db("default", columns, [values[name] for name in columns])


@pytest.fixture
def note() -> Iterator[type[Model]]:
    with isolate_apps("tests.testapp"):

        class Note(models.Model):
            tenant = models.CharField(max_length=10)
            text = EncryptedTextField(key_context=["tenant"])

            class Meta:
                abstract = True
                app_label = "testapp"

        yield Note


class Audited(models.Model):
    """A mixin as Django documents it: it keeps the values that were loaded."""

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Any:
        instance: Any = super().from_db(db, field_names, values, **options)
        instance.values_loaded = dict(zip(field_names, values, strict=True))
        return instance


@pytest.mark.parametrize("is_first", [True, False])
def test_a_mixin_with_a_from_db_of_its_own_is_called(note: type[Model], is_first: bool) -> None:
    bases = (Audited, note) if is_first else (note, Audited)
    mixed = type("Mixed", bases, {"__module__": "tests.testapp.models", "Meta": type("Meta", (), {})})
    assert loaded(mixed).values_loaded["tenant"] == "7"


def test_a_model_between_two_encrypted_ones_is_called(note: type[Model]) -> None:
    class Between(Audited, note):  # type: ignore[misc, valid-type]
        class Meta:
            abstract = True
            app_label = "testapp"

    class Outer(Between):
        more = EncryptedTextField(key_context=["tenant"])

        class Meta:
            app_label = "testapp"

    assert loaded(Outer, more=None, more_keys=None).values_loaded["tenant"] == "7"


def test_a_wrapped_constructor_is_called(note: type[Model]) -> None:
    class Wrapped(note):  # type: ignore[misc, valid-type]
        class Meta:
            app_label = "testapp"

    assert not hasattr(loaded(Wrapped), "seen")
    constructor = Wrapped.__init__

    @functools.wraps(constructor)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        self.seen = True

    # Trackers of fields do this once all models are there, and perhaps some rows.
    Wrapped.__init__ = noting
    assert loaded(Wrapped).seen

    class Later(Wrapped):
        class Meta:
            app_label = "testapp"
            proxy = True

    assert loaded(Later).seen


def test_a_constructor_behind_the_models_is_called(note: type[Model]) -> None:
    class Plain:
        def __init__(self) -> None:
            self.ready = True

    class Behind(note, Plain):  # type: ignore[misc, valid-type]
        class Meta:
            app_label = "testapp"

    assert loaded(Behind).ready


def test_an_item_that_a_companion_lacks_is_none_of_its_context(patient: Patient) -> None:
    assert not _is_where_it_was({"region": None}, {"schema": "t1"})
    assert _is_where_it_was({"schema": "t1"}, {"schema": "t1"})
