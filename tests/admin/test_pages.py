"""The admin, through Django's test client."""

import json
import re

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.sites import AdminSite, all_sites
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import FieldError
from django.db import connection
from django.test import RequestFactory
from django.urls import reverse

from tests.admin_site import PatientAdmin
from tests.testapp.models import Document, Letter, Organization, Patient
from vault_fields.admin import EncryptedFieldsMixin

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin_site")]

SECRETS = ["078-05-1120", "219-09-9999", "gout", "whooping cough"]


@pytest.fixture
def rounds(vault, monkeypatch):
    """How many keys each round of calls to the Vault asked for."""
    asked = []
    fetch = vault._decrypt_many
    monkeypatch.setattr(vault, "_decrypt_many", lambda keys, deadline: asked.append(len(keys)) or fetch(keys, deadline))
    return asked


@pytest.fixture
def hundred(organization, other_organization, vault) -> None:
    """A hundred rows, each with a data key of its own, as rows are that were saved one by one."""
    for number in range(100):
        tenant = organization if number % 2 else other_organization
        Patient.objects.create(organization=tenant, name=f"P{number}", ssn=f"ssn-{number}", history={"no": number})
    vault.purge()
    vault.calls.clear()


def change(obj):
    return reverse(f"admin:testapp_{obj._meta.model_name}_change", args=[obj.pk])


def changelist(model):
    return reverse(f"admin:testapp_{model._meta.model_name}_changelist")


def cells(response, field):
    html = response.content.decode()
    return re.findall(rf'<td class="field-{field}[^"]*">(.*?)</td>', html)


def header(response, field):
    return re.search(rf'<th scope="col" class="([^"]*)column-{field}"', response.content.decode())[1]


def everything_in(model):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")
        return repr(cursor.fetchall())


class TestList:
    def test_a_hundred_rows_are_one_round_of_unwraps(self, admin_client, hundred, vault, rounds) -> None:
        response = admin_client.get(changelist(Patient))
        assert len(cells(response, "ssn")) == 100
        assert set(cells(response, "ssn")) == {f"ssn-{number}" for number in range(100)}
        assert rounds == [100]
        assert vault.calls == {"decrypt": 100}

    def test_a_warm_page_costs_nothing(self, admin_client, hundred, rounds) -> None:
        admin_client.get(changelist(Patient))
        rounds.clear()
        assert len(cells(admin_client.get(changelist(Patient)), "ssn")) == 100
        assert rounds == []

    def test_a_page_asks_for_its_own_rows_only(self, admin_client, hundred, rounds, monkeypatch) -> None:
        monkeypatch.setattr(PatientAdmin, "list_per_page", 10)
        assert len(cells(admin_client.get(changelist(Patient), {"p": 3}), "ssn")) == 10
        assert rounds == [10]

    def test_a_list_that_does_not_show_the_field_costs_nothing(self, admin_client, organization, vault, rounds) -> None:
        Document.objects.create(organization=organization, body="gout")
        vault.purge()
        assert cells(admin_client.get(changelist(Document)), "organization") == ["org_1"]
        assert rounds == []

    def test_values_are_shown_as_those_of_plain_fields(self, admin_client, organization) -> None:
        Patient.objects.create(organization=organization, ssn="<b>", notes="", history={"é": [1, None, True]})
        Patient.objects.create(organization=organization, ssn=None, history=None)
        response = admin_client.get(changelist(Patient))
        assert cells(response, "ssn") == ["-", "&lt;b&gt;"]
        assert cells(response, "notes") == ["-", "-"]
        assert cells(response, "history") == ["-", "{&quot;é&quot;: [1, null, true]}"]

    def test_a_filter_tells_rows_without_a_value(self, admin_client, organization) -> None:
        Patient.objects.create(organization=organization, ssn="078-05-1120")
        Patient.objects.create(organization=organization, ssn=None)
        Patient.objects.create(organization=organization, ssn="")
        assert cells(admin_client.get(changelist(Patient), {"ssn__isempty": "1"}), "ssn") == ["-"]
        assert cells(admin_client.get(changelist(Patient), {"ssn__isempty": "0"}), "ssn") == ["-", "078-05-1120"]
        assert cells(admin_client.get(changelist(Patient), {"ssn__isnull": "True"}), "ssn") == ["-"]
        facets = admin_client.get(changelist(Patient), {"_facets": "True"}).content.decode()
        assert "Empty (1)" in facets
        assert "Not empty (2)" in facets

    def test_the_filter_of_django_compares(self, admin_client, patient, monkeypatch) -> None:
        """Why E026 lets it pass for JSON only."""
        monkeypatch.setattr(PatientAdmin, "list_filter", [("ssn", admin.EmptyFieldListFilter)])
        with pytest.raises(FieldError, match="does not support the lookup 'exact'"):
            admin_client.get(changelist(Patient), {"ssn__isempty": "1"})
        monkeypatch.setattr(PatientAdmin, "list_filter", [("history", admin.EmptyFieldListFilter)])
        assert cells(admin_client.get(changelist(Patient), {"history__isempty": "1"}), "ssn") == []
        assert cells(admin_client.get(changelist(Patient), {"history__isempty": "0"}), "ssn") == ["123-45-6789"]

    @pytest.mark.parametrize("lookup", ["ssn", "ssn__startswith", "history__pain"])
    def test_a_url_that_compares_is_turned_away(self, admin_client, hundred, rounds, lookup) -> None:
        response = admin_client.get(changelist(Patient), {lookup: "0"})
        assert (response.status_code, response.url) == (302, f"{changelist(Patient)}?e=1")
        assert rounds == []


class TestOrder:
    def test_headers_offer_only_what_works(self, admin_client, patient) -> None:
        response = admin_client.get(changelist(Patient))
        assert "sortable" in header(response, "name")
        assert "sortable" not in header(response, "ssn")
        assert "sortable" not in header(response, "history")

    def test_a_url_that_asks_for_it_is_passed_over(self, admin_client, organization) -> None:
        for name in "bca":
            Patient.objects.create(organization=organization, name=name, ssn=name)
        number = 1 + PatientAdmin.list_display.index("ssn")
        for order in (number, -number, f"{number}.x.99"):
            response = admin_client.get(changelist(Patient), {"o": order})
            assert cells(response, "ssn") == ["a", "c", "b"]  # By -pk, as without an order.
        response = admin_client.get(changelist(Patient), {"o": f"{number}.2"})
        assert cells(response, "ssn") == ["a", "b", "c"]

    def test_a_stock_admin_fails_there(self, rf, admin_user, patient) -> None:
        """Why there is a mixin, and W006, which asks for it."""
        stock = type("Stock", (admin.ModelAdmin,), {"list_display": ["ssn"]})(Patient, site := AdminSite())
        all_sites.discard(site)
        request = rf.get("/", {"o": "1"})
        request.user = admin_user
        with pytest.raises(FieldError, match="encrypted and does not support"):
            stock.changelist_view(request).render()

    def test_columns_that_are_computed_keep_their_order_unless_it_is_that_of_ciphertext(self, admin_user) -> None:
        @admin.display(ordering="-ssn")
        def masked(patient) -> str:
            return "***"

        @admin.display(ordering="name")
        def initial(patient):
            return patient.name[0]

        class OwnList(ChangeList):
            pass

        class Own(admin.ModelAdmin):
            def get_changelist(self, request, **kwargs):
                return OwnList

        mixed = type(
            "Mixed",
            (EncryptedFieldsMixin, Own),
            {"list_display": ["name", "organization__region", masked, initial, "ssn"], "sortable_by": None},
        )(Patient, site := AdminSite())
        all_sites.discard(site)
        request = RequestFactory().get("/")
        request.user = admin_user
        assert mixed.get_sortable_by(request) == ["name", "organization__region", masked, initial]
        changes = mixed.get_changelist_instance(request)
        assert isinstance(changes, OwnList)
        orders = [changes.get_ordering_field(name) for name in mixed.list_display]
        assert orders == ["name", "organization__region", None, "name", None]


class TestForms:
    def test_the_form_shows_the_plaintext(self, admin_client, patient) -> None:
        form = admin_client.get(change(patient)).context["adminform"].form
        assert form.initial["ssn"] == "123-45-6789"
        assert form["history"].value() == "[1]"
        assert "ssn_keys" not in form.fields

    def test_a_changed_value_is_stored_encrypted(self, admin_client, patient, organization, stored) -> None:
        (keys,) = stored(patient, "ssn_keys")
        data = {"organization": organization.pk, "name": "Ada", "ssn": "078-05-1120", "notes": "", "history": "[1]"}
        assert admin_client.post(change(patient), data).status_code == 302
        assert Patient.objects.get().ssn == "078-05-1120"
        value, now = stored(patient, "ssn", "ssn_keys")
        assert value.startswith("$vf$1$")
        assert now == keys  # The row keeps its data key.

    def test_an_unchanged_form_keeps_what_is_stored(self, admin_client, patient, organization, stored, vault) -> None:
        columns = ["ssn", "ssn_keys", "history", "history_keys"]
        before = stored(patient, *columns)
        vault.calls.clear()
        data = {"organization": organization.pk, "name": "Bo", "ssn": "123-45-6789", "notes": "", "history": "[1]"}
        admin_client.post(change(patient), data)
        assert stored(patient, *columns) == before
        assert vault.calls["create"] == 0

    def test_a_row_is_added_with_one_call(self, admin_client, organization, stored, vault) -> None:
        vault.calls.clear()
        data = {"organization": organization.pk, "name": "", "ssn": "078-05-1120", "notes": "gout", "history": "{}"}
        # An empty name is refused; what was entered comes back, and nothing was asked or stored.
        response = admin_client.post(reverse("admin:testapp_patient_add"), data)
        assert response.context["adminform"].form["ssn"].value() == "078-05-1120"
        assert vault.calls == {}
        admin_client.post(reverse("admin:testapp_patient_add"), data | {"name": "Ada"})
        added = Patient.objects.get()
        assert (added.ssn, added.notes, added.history) == ("078-05-1120", "gout", {})
        assert vault.calls["create"] == 1
        assert not any(secret in repr(stored(added, "ssn", "notes", "history")) for secret in SECRETS)

    def test_moving_a_row_to_another_tenant_encrypts_it_anew(
        self, admin_client, patient, other_organization, stored
    ) -> None:
        before = stored(patient, "ssn_keys")
        data = {"organization": other_organization.pk, "name": "Ada", "ssn": "123-45-6789", "history": "[1]"}
        admin_client.post(change(patient), data)
        assert Patient.objects.get().ssn == "123-45-6789"
        assert stored(patient, "ssn_keys") != before

    def test_json_that_is_none_is_an_error_of_the_form(self, admin_client, patient, organization, stored) -> None:
        before = stored(patient, "history")
        data = {"organization": organization.pk, "name": "Ada", "ssn": "1", "history": '{"pain": '}
        response = admin_client.post(change(patient), data)
        assert response.context["adminform"].form.errors == {"history": ["Enter a valid JSON."]}
        assert "{&quot;pain&quot;: " in response.content.decode()
        assert stored(patient, "history") == before

    def test_fields_that_cannot_be_edited_are_shown(self, admin_client, organization) -> None:
        document = Document.objects.create(organization=organization, body="gout")
        assert '<div class="readonly">gout</div>' in admin_client.get(change(document)).content.decode()

    def test_inlines_are_one_round(self, admin_client, hundred, organization, rounds) -> None:
        response = admin_client.get(change(organization))
        values = re.findall(r">\s*(ssn-\d+)</textarea>", response.content.decode())
        assert len(values) == 50
        assert rounds == [50]

    def test_inlines_are_saved(self, admin_client, patient, organization) -> None:
        data = {
            "workos_id": "org_1",
            "region": "eu",
            "patients-TOTAL_FORMS": 2,
            "patients-INITIAL_FORMS": 1,
            "patients-0-id": patient.pk,
            "patients-0-organization": organization.pk,
            "patients-0-name": "Ada",
            "patients-0-ssn": "078-05-1120",
            "patients-0-history": "[1]",
            "patients-1-organization": organization.pk,
            "patients-1-name": "Bo",
            "patients-1-ssn": "219-09-9999",
            "patients-1-history": '{"gout": true}',
        }
        assert admin_client.post(change(organization), data).status_code == 302
        values = Patient.objects.order_by("pk").values_list("ssn", "history")
        assert list(values) == [("078-05-1120", [1]), ("219-09-9999", {"gout": True})]
        assert not any(secret in everything_in(Patient) for secret in SECRETS)

    def test_lists_are_editable(self, admin_client, organization, stored) -> None:
        letters = [Letter.objects.create(organization=organization, subject=subject) for subject in ("one", "two")]
        page = admin_client.get(changelist(Letter)).content.decode()
        assert re.findall(r">\s*(one|two)</textarea>", page) == ["two", "one"]
        before = stored(letters[1], "subject")
        data = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2, "_save": "Save"}
        for number, (letter, subject) in enumerate([(letters[1], "two"), (letters[0], "gout")]):
            data |= {f"form-{number}-id": letter.pk, f"form-{number}-subject": subject}
        assert admin_client.post(changelist(Letter), data).status_code == 302
        assert list(Letter.objects.order_by("pk").values_list("subject", flat=True)) == ["gout", "two"]
        assert stored(letters[1], "subject") == before


class TestHistory:
    def test_the_log_has_no_plaintext(self, admin_client, organization) -> None:
        data = {"organization": organization.pk, "name": "Ada", "ssn": "078-05-1120", "notes": "gout", "history": "{}"}
        admin_client.post(reverse("admin:testapp_patient_add"), data)
        patient = Patient.objects.get()
        data |= {"ssn": "219-09-9999", "history": '["whooping cough"]'}
        admin_client.post(change(patient), data)
        letter = Letter.objects.create(organization=organization, subject="gout")
        data = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "_save": "Save"}
        data |= {"form-0-id": letter.pk, "form-0-subject": "whooping cough"}
        admin_client.post(changelist(Letter), data)
        admin_client.post(reverse("admin:testapp_patient_delete", args=[patient.pk]), {"post": "yes"})
        messages = [json.loads(entry.change_message or "[]") for entry in LogEntry.objects.order_by("pk")]
        assert messages == [
            [{"added": {}}],
            [{"changed": {"fields": ["Ssn", "History"]}}],
            [{"changed": {"fields": ["Subject"]}}],
            [],
        ]
        log = everything_in(LogEntry)
        assert not any(secret in log for secret in SECRETS)

    def test_the_log_of_inlines_has_no_plaintext(self, admin_client, patient, organization) -> None:
        data = {
            "workos_id": "org_1",
            "region": "eu",
            "patients-TOTAL_FORMS": 1,
            "patients-INITIAL_FORMS": 1,
            "patients-0-id": patient.pk,
            "patients-0-organization": organization.pk,
            "patients-0-name": "Ada",
            "patients-0-ssn": "078-05-1120",
            "patients-0-history": "[1]",
        }
        admin_client.post(change(organization), data)
        assert "Ssn" in everything_in(LogEntry)
        assert "078-05-1120" not in everything_in(LogEntry)

    def test_the_history_page_opens_nothing(self, admin_client, patient, rounds) -> None:
        url = reverse("admin:testapp_patient_history", args=[patient.pk])
        assert admin_client.get(url).status_code == 200
        assert rounds == []

    def test_deleting_opens_nothing(self, admin_client, hundred, rounds) -> None:
        url = reverse("admin:testapp_patient_delete", args=[Patient.objects.first().pk])
        assert admin_client.get(url).status_code == 200
        assert admin_client.post(url, {"post": "yes"}).status_code == 302
        chosen = [str(pk) for pk in Patient.objects.values_list("pk", flat=True)[:10]]
        action = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
        assert admin_client.post(changelist(Patient), action).status_code == 302
        assert Patient.objects.count() == 89
        assert rounds == []

    def test_a_protected_row_is_named_without_its_values(self, admin_client, patient, organization) -> None:
        page = admin_client.get(reverse("admin:testapp_organization_delete", args=[organization.pk])).content.decode()
        assert f"Patient object ({patient.pk})" in page
        assert "123-45-6789" not in page


def test_searching_other_fields_works(admin_client, organization) -> None:
    Patient.objects.create(organization=organization, name="Ada", ssn="1")
    Patient.objects.create(organization=organization, name="Bo", ssn="2")
    assert cells(admin_client.get(changelist(Patient), {"q": "ada"}), "ssn") == ["1"]
    assert Organization.objects.count() == 1
