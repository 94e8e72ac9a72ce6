"""Admin classes."""

from typing import Never

import pytest
from django.contrib import admin
from django.contrib.admin import filters
from django.contrib.admin.sites import AdminSite, all_sites
from django.db import models
from django.db.models import F
from django.db.models.functions import Lower
from django.test import modify_settings

from vault_fields.admin import EncryptedFieldsMixin, NullFieldListFilter
from vault_fields.checks.admin import check_admin
from vault_fields.fields import BlindIndex, EncryptedJSONField, EncryptedTextField
from vault_fields.normalize import casefold, last_four


@pytest.fixture
def check(lab):
    """Register an admin class with these attributes for ``Patient``, or for another model; return the messages."""
    lab.patient(
        history=EncryptedJSONField(key_context=["organization_id"], null=True),
        digest=EncryptedJSONField(key_context=["organization_id"]),
        born=models.DateField(),
        slug=models.SlugField(),
    )
    lab.model("Visit", patient=models.ForeignKey("Patient", models.CASCADE), at=models.DateTimeField())
    site = AdminSite()

    def check(model="patient", bases=(admin.ModelAdmin,), **attributes):
        site.register(lab.apps.get_model("testapp", model), type("TheAdmin", bases, attributes))
        messages = check_admin(lab.apps.get_app_configs())
        assert all(message.obj.__name__ == "TheAdmin" and message.hint for message in messages)
        return messages

    yield check
    all_sites.discard(site)


def ids(messages):
    return [message.id.removeprefix("vault_fields.") for message in messages]


def test_a_right_admin_is_passed_over(check) -> None:
    assert (
        check(
            list_display=["pk", "born", "organization__workos_id", "ssn"],
            sortable_by=["born"],
            search_fields=["organization__workos_id", "^slug", "ssn__isnull"],
            list_filter=["organization", ("born", filters.DateFieldListFilter)],
            ordering=["-organization__workos_id", F("born").desc()],
            prepopulated_fields={"slug": ["organization"], "ssn": ["slug"]},
        )
        == []
    )


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("patient", "ssn"),
        ("patient", "=ssn"),
        ("patient", "ssn__icontains"),
        ("patient", "history__pain"),
        ("visit", "@patient__ssn"),
        ("organization", "patient__ssn"),
    ],
)
def test_e025_search(check, model, path) -> None:
    (message,) = check(model, search_fields=["pk", path])
    assert message.id == "vault_fields.E025"
    assert message.hint == f"Take {path!r} out of search_fields."


@pytest.mark.parametrize(
    ("model", "item"),
    [
        ("patient", "ssn"),
        ("visit", "patient__ssn"),
        ("patient", ("ssn", filters.AllValuesFieldListFilter)),
        ("patient", ("ssn", filters.EmptyFieldListFilter)),
    ],
)
def test_e026_filter(check, model, item) -> None:
    (message,) = check(model, list_filter=[item])
    assert message.id == "vault_fields.E026"
    assert "vault_fields.admin.NullFieldListFilter" in message.hint


class OwnFilter(admin.SimpleListFilter):
    title = parameter_name = "own"


class OwnFieldFilter(admin.FieldListFilter):
    pass


@pytest.mark.parametrize(
    "item",
    [
        ("ssn", NullFieldListFilter),
        ("history", NullFieldListFilter),
        ("history", filters.EmptyFieldListFilter),  # There is no empty string among JSON values.
        ("ssn", OwnFieldFilter),
        OwnFilter,
        "ssn_keys",
    ],
)
def test_filters_that_ask_for_null_and_those_of_the_project_are_passed_over(check, item) -> None:
    assert check(list_filter=[item]) == []


@pytest.mark.parametrize("order", ["ssn", "-ssn", F("ssn").desc(), Lower("ssn")])
def test_e027_ordering(check, order) -> None:
    (message,) = check(ordering=["born", order])
    assert message.id == "vault_fields.E027"
    assert message.msg.startswith("The ordering names the encrypted field testapp.Patient.ssn")


def test_e027_ordering_of_an_inline(check, lab) -> None:
    inline = type(
        "PatientInline",
        (admin.TabularInline,),
        {"model": lab.apps.get_model("testapp", "patient"), "ordering": ["ssn"]},
    )
    (message,) = check("organization", inlines=[inline])
    assert message.id == "vault_fields.E027"
    assert message.msg.startswith("The ordering of PatientInline names")


@admin.display(ordering="-ssn")
def masked(patient) -> str:
    return "***"


@pytest.mark.parametrize(
    "attributes",
    [
        {"list_display": [masked]},
        {"list_display": ["masked"], "masked": lambda self, patient: "***"},
    ],
)
def test_e027_order_of_a_column_that_is_computed(check, attributes) -> None:
    if "masked" in attributes:
        attributes["masked"].admin_order_field = F("ssn")
    (message,) = check(**attributes)
    assert message.id == "vault_fields.E027"
    assert message.msg.startswith("The admin_order_field of ")


def test_e027_order_of_a_property_of_the_model(check, lab) -> None:
    lab.apps.get_model("testapp", "patient").masked = property(masked)
    assert ids(check(list_display=["masked", "__str__"])) == ["E027"]


def test_w006_header_that_offers_to_sort(check) -> None:
    (message,) = check(list_display=["born", "ssn", "history"])
    assert message.id == "vault_fields.W006"
    assert message.msg.startswith("The list shows 'ssn', 'history' under")
    assert message.hint.startswith("Write class TheAdmin(vault_fields.admin.EncryptedFieldsMixin, admin.ModelAdmin)")


def test_w006_through_a_relation(check) -> None:
    assert ids(check("visit", list_display=["patient__ssn"])) == ["W006"]


def test_w006_is_settled_by_the_mixin(check) -> None:
    assert check(bases=(EncryptedFieldsMixin, admin.ModelAdmin), list_display=["ssn"]) == []


def test_w006_mixin_that_stands_where_it_does_nothing(check) -> None:
    assert ids(check(bases=(admin.ModelAdmin, EncryptedFieldsMixin), list_display=["ssn"])) == ["W006"]


def test_w006_is_settled_by_a_method_that_says_what_can_be_sorted(check) -> None:
    assert check(list_display=["ssn"], get_sortable_by=lambda self, request: []) == []


def test_w007_plaintext_that_the_form_copies(check) -> None:
    (message,) = check(prepopulated_fields={"slug": ["organization", "ssn"]})
    assert message.id == "vault_fields.W007"
    assert message.hint == "Take 'ssn' out of prepopulated_fields['slug']."


def test_date_hierarchy_is_reported_by_django(check, lab) -> None:
    """There is no encrypted date, and Django takes nothing else."""
    patient = lab.apps.get_model("testapp", "patient")
    found = type("TheAdmin", (admin.ModelAdmin,), {"date_hierarchy": "ssn"})(patient, AdminSite()).check()
    assert [message.id for message in found] == ["admin.E128"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"inlines": ["PatientInline"]},
        {"prepopulated_fields": ["slug"]},
        {"search_fields": 7},
        {"list_filter": [("ssn", object)]},
        {"list_display": ["no_such_column"]},
    ],
)
def test_options_of_a_wrong_kind_are_left_to_django(check, wrong) -> None:
    assert check(**{"ordering": ["ssn"], **wrong}) == []


def raising(*args, **kwargs) -> Never:
    raise LookupError("odd")


@pytest.mark.parametrize("answer", ["text", ["text"], [None, 7], iter([object()]), (), {"a": "b"}])
def test_what_a_projects_own_check_returns_besides_messages_is_passed_over(check, answer) -> None:
    assert ids(check(ordering=["ssn"], check=lambda self: answer)) == ["E027"]


@pytest.mark.parametrize("own", [raising, lambda self: None, lambda self: 7])
def test_check_of_a_project_that_fails_is_left_to_django(check, own) -> None:
    assert check(ordering=["ssn"], check=own) == []


ODD = [None, 7, "ssn", object, {"ssn": 1}, {1: "ssn"}, [None], [7], [("ssn",)], [()], [object()], raising, [raising]]
ODD += [property(raising), [b"ssn"], {"slug": None}, {"slug": 7}, [[]]]
OPTIONS = ["search_fields", "list_filter", "ordering", "inlines", "list_display", "sortable_by", "prepopulated_fields"]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_options_that_a_project_lets_through_end_no_check(check, option, odd) -> None:
    """The other options are looked at all the same."""
    other = {"prepopulated_fields": {"slug": ["ssn"]}, "search_fields": ["ssn"]}
    found = ids(check(**other | {option: odd, "check": lambda self: []}))
    assert set(found) >= {"W007", "E025"} - ({"W007"} if option == "prepopulated_fields" else {"E025"})


def test_w014_options_that_cannot_be_looked_at(check) -> None:
    (message,) = check(list_filter=property(raising), check=lambda self: [])
    assert message.id == "vault_fields.W014"
    assert message.msg.startswith(
        f"The admin class TheAdmin cannot be checked for encrypted fields: LookupError at {__file__}"
    )
    assert "odd" not in message.msg
    assert "SILENCED_SYSTEM_CHECKS" in message.hint


def test_other_apps_are_not_asked_about(check, lab) -> None:
    check(ordering=["ssn"])
    assert check_admin([]) == []
    assert ids(check_admin(None)) == ["E027"]


def test_a_project_without_the_admin_is_passed_over() -> None:
    with modify_settings(INSTALLED_APPS={"remove": "django.contrib.admin"}):
        assert check_admin(None) == []


# Indexed fields.


class Searched(admin.ModelAdmin):
    pass


class SearchedByMixin(EncryptedFieldsMixin, admin.ModelAdmin):
    pass


@pytest.mark.parametrize(
    ("base", "entry", "fails"),
    [
        (Searched, "=ssn", True),  # It has to be asked for the tenant.
        (Searched, "ssn__exact", True),
        (Searched, "=email", False),
        (Searched, "email__exact", False),
        (Searched, "=phone", True),  # Django makes iexact of it.
        (Searched, "phone__exact", False),
        (Searched, "=phone__end", True),
        (SearchedByMixin, "=ssn", False),
        (SearchedByMixin, "ssn__exact", False),
        (SearchedByMixin, "=phone__end", False),
        (SearchedByMixin, "phone__end__exact", False),
        (SearchedByMixin, "=phone__other", True),
        (SearchedByMixin, "ssn", True),
        (SearchedByMixin, "^ssn", True),
        (SearchedByMixin, "=notes", True),
    ],
)
def test_searches_that_an_index_serves_are_passed_over(lab, base, entry: str, fails: bool) -> None:
    def field(**options):
        return EncryptedTextField(key_context=["organization_id"], **options)

    patient = lab.patient(
        ssn=field(index=True),
        email=field(index=BlindIndex(normalize=casefold, scope="global")),
        phone=field(index=[BlindIndex(scope="global"), BlindIndex(name="end", normalize=last_four)]),
        notes=field(),
    )
    site = AdminSite()
    site.register(patient, type("PatientAdmin", (base,), {"search_fields": [entry]}))
    try:
        found = [message for message in check_admin(lab.apps.get_app_configs()) if message.id == "vault_fields.E025"]
    finally:
        all_sites.discard(site)
    assert bool(found) is fails
    if fails and "notes" not in entry:
        assert "whose index is not searched so" in found[0].msg
        assert found[0].hint.startswith("Write '=")
