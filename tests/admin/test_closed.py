"""One value that does not open is that value's error, and never the page's."""

import html
import re
from contextlib import nullcontext
from typing import Never

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.signals import pre_save
from django.forms import BaseInlineFormSet
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin import closing_site
from tests.admin.damages import AWAY, REASONS, Damages
from tests.testapp.models import ApiKey, Certificate, Document, Letter, Organization, Patient
from vault_fields.admin import EncryptedFieldsMixin
from vault_fields.admin.completing import complete_searches
from vault_fields.admin.naming import _hook_names
from vault_fields.exceptions import VaultFieldsError, VaultRefused, VaultUnavailable
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.testing import assert_vault_calls

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.closing_site")]

GOOD, BAD = "078-05-1120", "219-09-9999"
# Of both kinds of fields: what it is that must not be seen of Ada's, what a list shows of Bo's, and what replaces it.
SECRETS = {"ssn": BAD, "history": "gout of Ada"}
SHOWN = {"ssn": GOOD, "history": '["gout of Bo"]'}
POSTED = {"ssn": "new", "history": '["new"]'}
NEW = {"ssn": "new", "history": ["new"]}


@pytest.fixture(autouse=True)
def fresh_vault(settings) -> None:
    """Keys that a test withdraws are its own."""
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}


@pytest.fixture
def patients(organization, other_organization):
    """One of each of two tenants: what happens to the first is no business of the second."""
    return [
        Patient.objects.create(
            organization=tenant, name=name, ssn=ssn, notes=f"notes of {name}", history=[f"gout of {name}"]
        )
        for tenant, name, ssn in [(organization, "Ada", BAD), (other_organization, "Bo", GOOD)]
    ]


@pytest.fixture
def damages(execute, organization, other_organization):
    return Damages(execute, Patient, "ssn", "ssn_keys", organization, other_organization)


@pytest.fixture(params=["ssn", "history"])
def column(request):
    """The field that is damaged: both kinds."""
    return request.param


@pytest.fixture(params=REASONS)
def damage(request, column, execute, patients, organization, other_organization):
    damages = Damages(execute, Patient, column, f"{column}_keys", organization, other_organization)
    getattr(damages, request.param)()
    return request.param


@pytest.fixture
def letter(organization):
    return Letter.objects.create(organization=organization, title="first", subject=BAD, text=["gout"])


@pytest.fixture
def dead_letter(letter, execute, organization, other_organization):
    Damages(execute, Letter, "subject", "vault_keys", organization, other_organization).refused()
    return letter


@pytest.fixture
def document(organization):
    return Document.objects.create(organization=organization, body=BAD)


def changelist(model):
    return reverse(f"admin:testapp_{model._meta.model_name}_changelist")


def url(name, row):
    return reverse(f"admin:testapp_{row._meta.model_name}_{name}", args=[row.pk])


def get(client, address, **query):
    response = client.get(address, query)
    assert response.status_code == 200
    return response.content.decode()


def cells(text, field):
    """What is shown in a column, without tags."""
    found = re.findall(rf'<t[dh] class="field-{field}[^"]*">(.*?)</t[dh]>', text, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", each)).strip() for each in found]


def inputs(text):
    """What a browser would send back of a form, if nothing is touched."""
    form = text[text.index('<form id="changelist-form"' if "changelist-form" in text else "_form") :]
    sent = {}
    for tag in re.findall(r"<input [^>]+>", form):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        is_sent = attributes.get("type") not in {"submit", "checkbox", "radio"} or " checked" in tag
        if is_sent and "name" in attributes and " disabled" not in tag:
            sent[attributes["name"]] = html.unescape(attributes.get("value", ""))
    for name, disabled, value in re.findall(r'<textarea name="([^"]+)"([^>]*)>\r?\n?(.*?)</textarea>', form, re.DOTALL):
        if " disabled" not in disabled:
            sent[name] = html.unescape(value)
    for name, attributes, options in re.findall(r'<select name="([^"]+)"([^>]*)>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        if chosen or " multiple" not in attributes:
            sent[name] = (chosen or re.search(r'<option value="([^"]*)"', options))[1]
    return {name: value for name, value in sent.items() if "__prefix__" not in name and not name.startswith("_")}


def errors(response):
    return [
        html.unescape(each)
        for each in re.findall(r'<ul class="errorlist[^>]*><li>(.*?)</li>', response.content.decode())
    ]


def reason(damage):
    return html.unescape(REASONS[damage])


class TestLists:
    def test_the_reason_stands_in_its_place(self, admin_client, damage, column) -> None:
        text = get(admin_client, changelist(Patient))
        assert cells(text, column) == [SHOWN[column], reason(damage)]
        assert cells(text, "masked") == ["***1120", reason(damage)]
        assert cells(text, "has_five")[1] == reason(damage)
        assert 'icon-yes.svg" alt="True"' in text
        assert cells(text, "name") == ["Bo", "Ada"]
        assert f'<em class="vault-reason">{REASONS[damage]}</em>' in text  # No value is in italics.
        assert SECRETS[column] not in text
        assert "stray plaintext" not in text

    def test_a_vault_that_is_away(self, admin_client, patients, vault) -> None:
        vault.purge()
        with vault.fail_with(VaultUnavailable("no answer")):
            text = get(admin_client, changelist(Patient))
        assert cells(text, "ssn") == [AWAY, AWAY]
        assert cells(text, "name") == ["Bo", "Ada"]

    def test_columns_that_open_are_shown_as_by_django(self, admin_client, patients) -> None:
        text = get(admin_client, changelist(Patient))
        assert "Last digits" in text
        assert "sortable column-masked" in text
        assert re.search(r'class="field-masked"><a href="[^"]*/change/">\*\*\*1120</a>', text)
        for patient in Patient.objects.all():
            patient.ssn = None
            patient.save()
        text = get(admin_client, changelist(Patient))
        assert (cells(text, "masked"), cells(text, "ssn")) == (["none", "none"], ["-", "-"])
        assert 'icon-no.svg" alt="False"' in text

    def test_it_sorts_by_a_column_that_is_computed(self, admin_client, patients) -> None:
        number = 1 + closing_site.PatientAdmin.list_display.index("masked")
        assert cells(get(admin_client, changelist(Patient), o=number), "name") == ["Ada", "Bo"]
        assert cells(get(admin_client, changelist(Patient), o=-number), "name") == ["Bo", "Ada"]

    @pytest.mark.parametrize("damaged", ["withdrawn", "refused"])
    def test_it_costs_the_queries_and_the_round_that_a_list_costs(
        self, admin_client, organization, other_organization, damages, vault, monkeypatch, damaged
    ) -> None:
        monkeypatch.setattr(closing_site.PatientAdmin, "list_select_related", ["organization"])
        for number in range(40):
            tenant = organization if number % 2 else other_organization
            Patient.objects.create(organization=tenant, ssn=f"ssn-{number}", history=None)
        vault.purge()
        with (
            CaptureQueriesContext(
                connection,
            ) as before,
            assert_vault_calls(decrypt=40, cold=True),
        ):
            get(admin_client, changelist(Patient))
        getattr(damages, damaged)()
        with CaptureQueriesContext(connection) as after, assert_vault_calls(decrypt=40, cold=True):
            text = get(admin_client, changelist(Patient))
        assert cells(text, "ssn").count(reason(damaged)) == 20
        assert len(after) == len(before)

    def test_a_vault_that_is_silent_is_waited_for_once(self, admin_client, patients, vault, monkeypatch) -> None:
        """However many rows, columns and methods there are."""
        columns = ["ssn", "notes", "history", "masked", "__str__"]
        monkeypatch.setattr(closing_site.PatientAdmin, "list_display", columns)
        monkeypatch.setattr(closing_site.PatientAdmin, "list_display_links", None)
        vault.purge()
        rounds = []

        def silent(keys, deadline):
            rounds.append(len(keys))
            return dict.fromkeys(keys, NoAnswerInTime("silence"))

        monkeypatch.setattr(vault, "_decrypt_many", silent)
        text = get(admin_client, changelist(Patient))
        assert [cells(text, name) for name in columns[:4]] == [[AWAY, AWAY]] * 4
        assert rounds == [2]

    def test_a_column_at_the_end_of_a_path(self, admin_client, execute, organization, other_organization) -> None:
        for tenant, secret in [(organization, BAD), (other_organization, GOOD)]:
            Certificate.objects.create(organization=tenant, secret=secret, label=secret[:3])
        Damages(execute, ApiKey, "secret", "secret_keys", organization, other_organization).refused()
        text = get(admin_client, changelist(Certificate))
        assert cells(text, "apikey_ptr__secret") == [GOOD, reason("refused")]
        assert cells(text, "apikey_ptr__label") == ["078", "219"]


class TestEditableLists:
    @pytest.mark.parametrize("damaged", ["withdrawn", "cut", "away"])
    def test_what_was_entered_while_it_opened_is_told_to_be_lost(
        self, admin_client, letter, execute, organization, other_organization, stored, vault, damaged
    ) -> None:
        Letter.objects.create(organization=organization, title="second", subject=BAD)
        sent = inputs(get(admin_client, changelist(Letter))) | {"_save": "Save"}
        sent |= {"form-0-subject": "edited", "form-1-subject": "edited"}
        if damaged != "away":
            getattr(Damages(execute, Letter, "subject", "vault_keys", organization, other_organization), damaged)()
        before = [stored(each, "subject", "text", "vault_keys") for each in Letter.objects.all()]
        vault.purge()
        with vault.fail_with(VaultUnavailable("no answer")) if damaged == "away" else nullcontext():
            response = admin_client.post(changelist(Letter), sent, follow=True)
        told = [str(message) for message in response.context["messages"]]
        assert told == ["Not saved, because the value that is stored cannot be opened: Subject."]
        assert before == [stored(each, "subject", "text", "vault_keys") for each in Letter.objects.all()]
        assert not LogEntry.objects.exists()

    def test_what_is_saved_beside_it_is_told_once(
        self, admin_client, letter, execute, organization, other_organization, monkeypatch
    ) -> None:
        monkeypatch.setattr(closing_site.LetterAdmin, "list_editable", ["title", "subject"])
        monkeypatch.setattr(closing_site.LetterAdmin, "list_display_links", ["text"])
        sent = inputs(get(admin_client, changelist(Letter))) | {"_save": "Save"}
        Damages(execute, Letter, "subject", "vault_keys", organization, other_organization).cut()
        sent |= {"form-0-subject": "edited", "form-0-title": ""}
        response = admin_client.post(changelist(Letter), sent)
        assert errors(response) == ["This field is required."]
        response = admin_client.post(changelist(Letter), sent | {"form-0-title": "new"}, follow=True)
        told = [str(message) for message in response.context["messages"]]
        assert told == [
            "Not saved, because the value that is stored cannot be opened: Subject.",
            "1 letter was changed successfully.",
        ]
        assert Letter.objects.get().title == "new"

    def test_the_cell_is_closed_and_the_others_are_saved(
        self, admin_client, dead_letter, other_organization, stored
    ) -> None:
        other = Letter.objects.create(organization=other_organization, title="second", subject=GOOD)
        before = stored(dead_letter, "subject", "text", "vault_keys")
        text = get(admin_client, changelist(Letter))
        assert [reason("refused") in cell for cell in cells(text, "subject")] == [False, True]
        assert cells(text, "text") == ["-", reason("refused")]
        sent = inputs(text) | {"form-0-subject": "new", "_save": "Save"}
        assert admin_client.post(changelist(Letter), sent).status_code == 302
        assert Letter.objects.get(pk=other.pk).subject == "new"
        assert stored(dead_letter, "subject", "text", "vault_keys") == before

    def test_it_is_replaced(self, admin_client, letter, execute, organization, other_organization) -> None:
        Damages(execute, Letter, "subject", "vault_keys", organization, other_organization).cut()
        text = get(admin_client, changelist(Letter))
        sent = inputs(text) | {"form-0-subject": "new", "form-0-subject-replace": "1", "_save": "Save"}
        assert admin_client.post(changelist(Letter), sent).status_code == 302
        stored = Letter.objects.get()
        assert (stored.subject, stored.text) == ("new", ["gout"])

    def test_what_it_shares_a_dead_key_with_is_named(self, admin_client, dead_letter, stored) -> None:
        before = stored(dead_letter, "subject", "text", "vault_keys")
        text = get(admin_client, changelist(Letter))
        sent = inputs(text) | {"form-0-subject": "new", "form-0-subject-replace": "1", "_save": "Save"}
        response = admin_client.post(changelist(Letter), sent)
        assert errors(response) == [f"{reason('refused')} Replace text as well: it has the same key."]
        assert stored(dead_letter, "subject", "text", "vault_keys") == before


class TestForms:
    def test_the_field_is_closed(self, admin_client, damage, column, patients) -> None:
        text = get(admin_client, url("change", patients[0]))
        assert REASONS[damage] in text
        assert "Replace this value" in text
        assert SECRETS[column] not in text
        assert "stray plaintext" not in text
        assert ("notes of Ada" in text) == (damage not in {"moved", "withdrawn"})
        assert f'<div class="readonly"><em class="vault-reason">{REASONS[damage]}</em></div>' in text

    def test_other_fields_of_the_row_are_saved_and_the_value_is_left(
        self, admin_client, damage, patients, stored
    ) -> None:
        columns = ["ssn", "ssn_keys", "history", "history_keys", "organization_id"]
        before = stored(patients[0], *columns)
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"name": "Grace"}
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert stored(patients[0], *columns) == before
        assert stored(patients[0], "name") == ("Grace",)
        assert 'fields": ["Name"]' in LogEntry.objects.get().change_message

    def test_a_value_of_which_the_page_says_nothing_is_left_too(
        self, admin_client, damage, patients, stored, monkeypatch
    ) -> None:
        monkeypatch.setattr(closing_site.PatientAdmin, "fields", ["name", "masked"])
        columns = ["ssn", "ssn_keys", "history", "history_keys", "organization_id"]
        before = stored(patients[0], *columns)
        assert admin_client.post(url("change", patients[0]), {"name": "Grace"}).status_code == 302
        assert stored(patients[0], *columns) == before
        assert stored(patients[0], "name") == ("Grace",)

    def test_nothing_of_it_is_taken_from_what_is_posted(self, admin_client, damage, column, patients, stored) -> None:
        before = stored(patients[0], column, f"{column}_keys")
        row = Patient.objects.get(pk=patients[0].pk)
        sent = {"organization": row.organization_id, "name": "Grace", "notes": "posted"} | POSTED
        response = admin_client.post(url("change", row), sent, follow=True)
        assert stored(row, column, f"{column}_keys") == before
        assert stored(row, "name") == ("Grace",)
        # A page on which it was open, say: whoever typed it is told.
        told = rf"Not saved, because the value that is stored cannot be opened: [^.]*\b{column.capitalize()}\b"
        assert re.search(told, response.content.decode())

    def test_it_is_replaced_on_purpose(self, admin_client, damage, column, damages, patients, stored, vault) -> None:
        if damage == "withdrawn":
            vault.restore("organization_id", str(patients[0].organization_id))
            damages.refused()
            column = "ssn"
        sent = inputs(get(admin_client, url("change", patients[0])))
        sent |= {column: POSTED[column], f"{column}-replace": "1"}
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert getattr(Patient.objects.get(pk=patients[0].pk), column) == NEW[column]
        assert stored(patients[0], column)[0].startswith("$vf$1$")
        assert f'fields": ["{column.capitalize()}"]' in LogEntry.objects.get().change_message

    def test_it_is_replaced_by_an_empty_text(self, admin_client, damages, patients) -> None:
        damages.refused()
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"ssn": "", "ssn-replace": "1"}
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert Patient.objects.get(pk=patients[0].pk).ssn == ""

    def test_the_key_of_a_withdrawn_tenant_takes_no_new_value_either(
        self, admin_client, damages, patients, stored
    ) -> None:
        damages.withdrawn()
        before = stored(patients[0], "ssn", "ssn_keys")
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"ssn": "new", "ssn-replace": "1"}
        response = admin_client.post(url("change", patients[0]), sent)
        assert errors(response) == [reason("withdrawn")]
        assert re.search(r">\s*new</textarea>", response.content.decode())
        assert stored(patients[0], "ssn", "ssn_keys") == before

    def test_nor_does_a_field_beside_it_that_has_no_value(
        self, admin_client, damages, patients, organization, stored
    ) -> None:
        patient = Patient.objects.create(organization=organization, name="Cy", ssn=BAD)
        damages.withdrawn()
        sent = inputs(get(admin_client, url("change", patient))) | {"name": "Grace"}
        assert sent["notes"] == ""
        assert admin_client.post(url("change", patient), sent).status_code == 302
        assert stored(patient, "name", "notes") == ("Grace", None)
        response = admin_client.post(url("change", patient), sent | {"notes": "new"})
        assert errors(response) == [reason("withdrawn")]
        assert stored(patient, "notes") == (None,)

    def test_a_text_without_the_box_is_no_replacement(self, admin_client, damages, patients, stored) -> None:
        damages.refused()
        before = stored(patients[0], "ssn", "ssn_keys", "name")
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"ssn": "new", "name": "Grace"}
        response = admin_client.post(url("change", patients[0]), sent)
        assert errors(response) == [
            "To replace the value that cannot be opened, tick the box; or else leave this empty."
        ]
        assert stored(patients[0], "ssn", "ssn_keys", "name") == before

    def test_a_value_that_opens_again_meanwhile_is_not_emptied(
        self, admin_client, patients, damages, vault, stored
    ) -> None:
        damages.withdrawn()
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"name": "Grace"}
        vault.restore("organization_id", str(patients[0].organization_id))
        before = stored(patients[0], "ssn", "ssn_keys", "notes")
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert stored(patients[0], "ssn", "ssn_keys", "notes") == before
        response = admin_client.post(url("change", patients[0]), sent | {"name": ""})
        assert "It could not be opened when this page was made, and can be now" in response.content.decode()
        assert BAD not in response.content.decode().replace("***", "")

    def test_while_the_vault_is_away_nothing_is_replaced(self, admin_client, patients, vault, stored) -> None:
        vault.purge()
        before = stored(patients[0], "ssn", "ssn_keys")
        with vault.fail_with(VaultUnavailable("no answer")):
            text = get(admin_client, url("change", patients[0]))
            assert AWAY in text
            assert "Replace this value" not in text
            sent = inputs(text) | {"name": "Grace"}
            assert admin_client.post(url("change", patients[0]), sent).status_code == 302
            response = admin_client.post(url("change", patients[0]), sent | {"ssn": "new", "ssn-replace": "1"})
            assert errors(response) == [AWAY]
        assert stored(patients[0], "ssn", "ssn_keys") == before
        assert stored(patients[0], "name") == ("Grace",)

    def test_nor_is_what_was_entered_before_it_went_away(self, admin_client, damages, patients, vault, stored) -> None:
        damages.refused()
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"name": "Grace", "ssn": "new"}
        before = stored(patients[0], "ssn", "ssn_keys")
        with vault.fail_with(VaultUnavailable("no answer")):
            response = admin_client.post(url("change", patients[0]), sent | {"ssn-replace": "1"})
            assert errors(response) == [AWAY]
            # No box can be ticked now, and the name is as good as ever.
            response = admin_client.post(url("change", patients[0]), sent, follow=True)
        assert "Not saved, because the value that is stored cannot be opened: Ssn" in response.content.decode()
        assert stored(patients[0], "ssn", "ssn_keys") == before
        assert stored(patients[0], "name") == ("Grace",)

    def test_a_row_that_was_moved_opens_when_it_is_moved_back(
        self, admin_client, damages, patients, organization
    ) -> None:
        damages.moved()
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"organization": organization.pk}
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        moved_back = Patient.objects.get(pk=patients[0].pk)
        assert (moved_back.ssn, moved_back.notes) == (BAD, "notes of Ada")

    def test_a_row_with_a_dead_key_cannot_be_moved(
        self, admin_client, damages, patients, other_organization, stored
    ) -> None:
        damages.refused()
        before = stored(patients[0], "ssn", "ssn_keys", "organization_id")
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"organization": other_organization.pk}
        response = admin_client.post(url("change", patients[0]), sent)
        assert errors(response) == [
            f"{reason('refused')} So the row cannot be changed in what decides about its keys, unless ssn is replaced."
        ]
        assert stored(patients[0], "ssn", "ssn_keys", "organization_id") == before

    def test_all_values_that_share_a_dead_key_are_replaced_together(self, admin_client, dead_letter, stored) -> None:
        before = stored(dead_letter, "subject", "text", "vault_keys")
        sent = inputs(get(admin_client, url("change", dead_letter)))
        sent |= {"subject": "new", "subject-replace": "1"}
        response = admin_client.post(url("change", dead_letter), sent)
        assert errors(response) == [f"{reason('refused')} Replace text as well: it has the same key."]
        assert stored(dead_letter, "subject", "text", "vault_keys") == before
        sent |= {"text": "[2]", "text-replace": "1"}
        assert admin_client.post(url("change", dead_letter), sent).status_code == 302
        assert (Letter.objects.get().subject, Letter.objects.get().text) == ("new", [2])

    def test_a_replacement_that_is_refused_comes_back(self, admin_client, dead_letter) -> None:
        sent = inputs(get(admin_client, url("change", dead_letter)))
        sent |= {"subject": "", "subject-replace": "1", "text": "[", "text-replace": "1"}
        response = admin_client.post(url("change", dead_letter), sent)
        assert errors(response) == ["This field is required.", "Enter a valid JSON."]
        assert response.content.decode().count("<details open>") == 2

    @pytest.mark.parametrize("damaged", REASONS)
    def test_a_row_of_nothing_else_is_saved_unchanged(
        self, admin_client, document, execute, organization, other_organization, stored, damaged
    ) -> None:
        getattr(Damages(execute, Document, "body", "body_keys", organization, other_organization), damaged)()
        if damaged == "withdrawn":
            return  # Its context has the organization's other id.
        before = stored(document, "body", "body_keys", "organization_id")
        sent = inputs(get(admin_client, url("change", document)))
        assert admin_client.post(url("change", document), sent).status_code == 302
        assert stored(document, "body", "body_keys", "organization_id") == before

    def test_what_the_project_sets_in_a_row_of_nothing_else_is_saved(
        self, admin_client, document, execute, organization, other_organization, monkeypatch, stored
    ) -> None:
        def save_model(self, request, document, form, change) -> None:
            document.organization = tenants.pop()
            super(closing_site.DocumentAdmin, self).save_model(request, document, form, change)

        tenants = [other_organization, organization]
        monkeypatch.setattr(closing_site.DocumentAdmin, "save_model", save_model)
        monkeypatch.setattr(closing_site.DocumentAdmin, "fields", ["body"])
        damages = Damages(execute, Document, "body", "body_keys", organization, other_organization)
        damages.moved()
        sent = inputs(get(admin_client, url("change", document)))
        assert sent["body-closed"] == "1"
        assert admin_client.post(url("change", document), sent).status_code == 302
        assert (Document.objects.get().organization, Document.objects.get().body) == (organization, BAD)
        damages.refused()
        before = stored(document, "body", "body_keys", "organization_id")
        with pytest.raises(VaultRefused):
            admin_client.post(url("change", document), sent)
        assert tenants == []
        assert stored(document, "body", "body_keys", "organization_id") == before

    def test_a_copy_of_the_row_needs_a_value_of_its_own(self, admin_client, document, execute, organization) -> None:
        Damages(execute, Document, "body", "body_keys", organization, None).refused()
        sent = inputs(get(admin_client, url("change", document))) | {"_saveasnew": "1"}
        response = admin_client.post(url("change", document), sent | {"body": "new"})
        assert errors(response) == [
            "The value of the row that is copied cannot be opened, and is not copied: enter one."
        ]
        assert Document.objects.count() == 1
        sent |= {"body": "new", "body-replace": "1"}
        assert admin_client.post(url("change", document), sent).status_code == 302
        assert Document.objects.exclude(pk=document.pk).get().body == "new"

    def test_a_form_of_the_project_does_not_see_it(self, admin_client, damages, patients, monkeypatch) -> None:
        from django import forms

        class OwnForm(forms.ModelForm):
            def clean_ssn(self):
                return self.cleaned_data["ssn"].strip()

            def clean(self) -> None:
                seen.append(sorted(self.cleaned_data))

        seen = []
        monkeypatch.setattr(closing_site.PatientAdmin, "form", OwnForm)
        damages.refused()
        sent = inputs(get(admin_client, url("change", patients[0])))
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert seen == [["history", "name", "notes", "organization"]]
        sent |= {"ssn": " new ", "ssn-replace": "1"}
        assert admin_client.post(url("change", patients[0]), sent).status_code == 302
        assert Patient.objects.get(pk=patients[0].pk).ssn == "new"


class TestInlines:
    @pytest.fixture
    def parent(self, patients, letter, document, damages, execute, organization, other_organization):
        Patient.objects.create(organization=organization, name="Cy", ssn=GOOD)
        for model, column, keys in [(Letter, "subject", "vault_keys"), (Document, "body", "body_keys")]:
            Damages(execute, model, column, keys, organization, other_organization).refused()
        first = Patient.objects.filter(pk=patients[0].pk)
        execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60) WHERE id = %s", first.get().pk)
        return organization

    def test_reasons_stand_in_their_places(self, admin_client, parent) -> None:
        text = get(admin_client, url("change", parent))
        assert text.count(REASONS["cut"]) == 1
        assert GOOD in text
        assert text.count(f'<em class="vault-reason">{REASONS["refused"]}</em>') == 4  # Two of them are read-only.
        assert BAD not in text

    def test_others_are_saved_and_they_are_left(self, admin_client, parent, patients, letter, stored) -> None:
        before = [stored(patients[0], "ssn", "ssn_keys"), stored(letter, "subject", "text", "vault_keys")]
        sent = inputs(get(admin_client, url("change", parent)))
        sent |= {"patients-0-name": "Grace", "patients-1-ssn": "changed", "letter_set-0-title": "changed"}
        assert admin_client.post(url("change", parent), sent).status_code == 302
        assert before == [stored(patients[0], "ssn", "ssn_keys"), stored(letter, "subject", "text", "vault_keys")]
        assert stored(patients[0], "name") == ("Grace",)
        assert stored(letter, "title") == ("changed",)
        assert Patient.objects.get(name="Cy").ssn == "changed"

    def test_what_is_damaged_is_left_in_any_kind_of_field(
        self, admin_client, damage, organization, other_organization, patients, stored
    ) -> None:
        columns = ["ssn", "ssn_keys", "history", "history_keys", "organization_id"]
        before = stored(patients[0], *columns)
        tenant = other_organization if damage == "moved" else organization
        sent = inputs(get(admin_client, url("change", tenant)))
        assert sent["patients-0-name"] == "Ada"
        assert admin_client.post(url("change", tenant), sent | {"patients-0-name": "Grace"}).status_code == 302
        assert stored(patients[0], *columns) == before
        assert stored(patients[0], "name") == ("Grace",)

    def test_they_are_replaced(self, admin_client, parent, patients, letter) -> None:
        sent = inputs(get(admin_client, url("change", parent)))
        sent |= {"patients-0-ssn": "", "patients-0-ssn-replace": "1"}
        sent |= {"letter_set-0-subject": "new", "letter_set-0-subject-replace": "1"}
        response = admin_client.post(url("change", parent), sent)
        assert errors(response) == [f"{reason('refused')} Replace text as well: it has the same key."]
        sent |= {"letter_set-0-text": "[2]", "letter_set-0-text-replace": "1"}
        assert admin_client.post(url("change", parent), sent).status_code == 302
        assert Patient.objects.get(pk=patients[0].pk).ssn == ""
        assert (Letter.objects.get().subject, Letter.objects.get().text) == ("new", [2])

    def test_they_are_deleted(self, admin_client, parent, vault) -> None:
        sent = inputs(get(admin_client, url("change", parent)))
        sent |= {"letter_set-0-DELETE": "on", "letter_set-0-subject-replace": "1", "patients-0-DELETE": "on"}
        with assert_vault_calls(decrypt=3, cold=True):
            assert admin_client.post(url("change", parent), sent).status_code == 302
        assert not Letter.objects.exists()
        assert Patient.objects.filter(organization=parent).count() == 1

    def test_a_row_of_nothing_else_is_left(self, admin_client, parent, document, stored, monkeypatch) -> None:
        monkeypatch.setattr(closing_site.DocumentInline, "readonly_fields", [])
        monkeypatch.setattr(closing_site.DocumentInline, "fields", ["body"])
        before = stored(document, "body", "body_keys")
        sent = inputs(get(admin_client, url("change", parent)))
        response = admin_client.post(url("change", parent), sent | {"document_set-0-body": "new"})
        assert len(errors(response)) == 1
        assert admin_client.post(url("change", parent), sent).status_code == 302
        assert stored(document, "body", "body_keys") == before


class TestPermissions:
    @pytest.fixture
    def viewer(self, client, db):
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        client.force_login(user)
        return client

    def test_who_may_only_view_sees_the_reason(self, viewer, damage, patients) -> None:
        text = get(viewer, url("change", patients[0]))
        assert text.count(f'<em class="vault-reason">{REASONS[damage]}</em>') >= 2
        assert "Replace this value" not in text
        assert "ssn-closed" not in text

    def test_inlines_too(self, viewer, damages, patients, organization, letter, document) -> None:
        damages.refused()
        text = get(viewer, url("change", organization))
        assert REASONS["refused"] in text
        assert "Replace this value" not in text

    def test_who_may_only_view_replaces_nothing(self, viewer, damages, patients, stored) -> None:
        damages.refused()
        before = stored(patients[0], "ssn", "ssn_keys")
        response = viewer.post(url("change", patients[0]), {"ssn": "new", "ssn-replace": "1", "ssn-closed": "1"})
        assert response.status_code == 403
        assert stored(patients[0], "ssn", "ssn_keys") == before

    def test_inlines_that_may_only_be_viewed_are_left(self, client, damages, patients, organization, stored) -> None:
        damages.refused()
        user = User.objects.create_user("half", is_staff=True)
        names = ["view_patient", "change_organization"]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client.force_login(user)
        before = stored(patients[0], "ssn", "ssn_keys")
        sent = inputs(get(client, url("change", organization)))
        sent |= {"patients-0-ssn": "new", "patients-0-ssn-replace": "1", "patients-0-ssn-closed": "1"}
        assert client.post(url("change", organization), sent).status_code == 302
        assert stored(patients[0], "ssn", "ssn_keys") == before


class TestNames:
    """``__str__`` of a row that reads a value, which W004 warns of."""

    @pytest.fixture(autouse=True)
    def telling_names(self, monkeypatch):
        monkeypatch.setattr(Patient, "__str__", lambda patient: f"{patient.name} {closing_site.ssn_of(patient)}")
        _hook_names.cache_clear()
        yield
        _hook_names.cache_clear()

    def test_a_list_tells_the_reason_beside_the_row(self, admin_client, damage, patients) -> None:
        text = get(admin_client, changelist(Patient))
        assert cells(text, "__str__") == [f"Bo {GOOD}", f"Patient object ({patients[0].pk}): {reason(damage)}"]

    def test_pages_of_one_row_name_it(self, admin_client, damage, patients) -> None:
        for name in ("change", "history", "delete"):
            assert f"Patient object ({patients[0].pk})" in get(admin_client, url(name, patients[0]))

    def test_it_is_changed_and_deleted(self, admin_client, damage, patients) -> None:
        sent = inputs(get(admin_client, url("change", patients[0]))) | {"name": "Grace"}
        response = admin_client.post(url("change", patients[0]), sent, follow=True)
        assert "was changed successfully" in response.content.decode()
        response = admin_client.post(url("delete", patients[0]), {"post": "yes"}, follow=True)
        assert "was deleted successfully" in response.content.decode()
        names = set(LogEntry.objects.values_list("object_repr", flat=True))
        assert names == {f"Patient object ({patients[0].pk})"}

    def test_rows_are_deleted_together(self, admin_client, damage, patients) -> None:
        chosen = {"action": "delete_selected", "_selected_action": [patient.pk for patient in patients]}
        response = admin_client.post(changelist(Patient), chosen)
        assert f"Patient object ({patients[0].pk})" in response.content.decode()
        assert admin_client.post(changelist(Patient), chosen | {"post": "yes"}).status_code == 302
        assert not Patient.objects.exists()

    def test_pages_of_other_models_name_it(
        self, admin_client, damage, patients, other_organization, organization
    ) -> None:
        tenant = other_organization if damage == "moved" else organization
        for name in ("change", "delete"):
            assert f"Patient object ({patients[0].pk})" in get(admin_client, url(name, tenant))

    @pytest.mark.parametrize("where", ["save_model", "save_related", "response_change", "save", "signal", "clean"])
    def test_what_a_project_stores_is_never_that_name(
        self, admin_client, damages, patients, monkeypatch, where
    ) -> None:
        """A label for lists, say. It would take the place of the right one, and stay."""
        damages.refused()
        sent = inputs(get(admin_client, url("change", patients[0])))

        def label(*args, **kwargs) -> None:
            rows = [getattr(each, "instance", each) for each in (*args, *kwargs.values())]
            labels.append(str(next(row for row in rows if isinstance(row, Patient))))

        labels = []
        if where == "signal":
            pre_save.connect(label, sender=Patient, weak=False, dispatch_uid="label")
        else:
            owner = Patient if where in {"save", "clean"} else closing_site.PatientAdmin
            monkeypatch.setattr(owner, where, label)
        try:
            with pytest.raises(VaultFieldsError):
                admin_client.post(url("change", patients[0]), sent)
        finally:
            pre_save.disconnect(sender=Patient, dispatch_uid="label")
        assert labels == []

    def test_nor_in_a_formset(self, admin_client, damages, patients, organization, monkeypatch) -> None:
        class Labelling(BaseInlineFormSet):
            def clean(self) -> None:
                labels.extend(str(form.instance) for form in self.forms)

        labels = []
        monkeypatch.setattr(closing_site.PatientInline, "formset", Labelling)
        damages.refused()
        sent = inputs(get(admin_client, url("change", organization)))
        with pytest.raises(VaultFieldsError):
            admin_client.post(url("change", organization), sent)
        assert labels == []

    def test_nor_in_an_action_or_while_rows_are_deleted(self, admin_client, damages, patients, monkeypatch) -> None:
        def label(model_admin, request, queryset) -> None:
            labels.extend(map(str, queryset))

        labels = []
        damages.refused()
        monkeypatch.setattr(closing_site.PatientAdmin, "actions", [label])
        monkeypatch.setattr(closing_site.PatientAdmin, "delete_queryset", label)
        monkeypatch.setattr(
            closing_site.PatientAdmin, "delete_model", lambda self, request, row: labels.append(str(row))
        )
        for action in ("label", "delete_selected"):
            chosen = {"action": action, "_selected_action": [patients[0].pk], "post": "yes"}
            with pytest.raises(VaultFieldsError):
                admin_client.post(changelist(Patient), chosen)
        with pytest.raises(VaultFieldsError):
            admin_client.post(url("delete", patients[0]), {"post": "yes"})
        assert labels == []

    def test_a_row_that_is_added_is_named(self, admin_client, damages, patients, organization, monkeypatch) -> None:
        """By a name that reads another row."""
        monkeypatch.setattr(Patient, "__str__", lambda patient: Patient.objects.earliest("pk").ssn)
        _hook_names.cache_clear()
        damages.refused()
        sent = {"organization": organization.pk, "name": "Cy", "ssn": "", "notes": ""}
        address = reverse("admin:testapp_patient_add")
        monkeypatch.setattr(closing_site.PatientAdmin, "fields", ["organization", "name"])
        assert "was added successfully" in admin_client.post(address, sent, follow=True).content.decode()

    def test_it_is_found(self, admin_client, damage, column, patients) -> None:
        text = get(admin_client, changelist(Patient), q="ada")
        assert cells(text, column) == [reason(damage)]
        assert cells(text, "__str__") == [f"Patient object ({patients[0].pk}): {reason(damage)}"]

    def test_elsewhere_it_fails_as_ever(self, damage, patients) -> None:
        with pytest.raises(VaultFieldsError):
            str(Patient.objects.get(pk=patients[0].pk))


class TestOffers:
    """Rows that are offered while somebody types into a field of ``autocomplete_fields``."""

    ADDRESS = "/admin/autocomplete/?app_label=testapp&model_name=patient&field_name=organization&term=org"

    @pytest.fixture(autouse=True)
    def telling_names(self, monkeypatch, patients):
        """A tenant is named by what its patients have."""
        monkeypatch.setattr(Organization, "__str__", lambda self: " ".join(each.ssn for each in self.patients.all()))
        _hook_names.cache_clear()
        yield
        _hook_names.cache_clear()

    def test_one_whose_name_does_not_open_is_offered_all_the_same(self, admin_client, damages, organization) -> None:
        damages.refused()
        results = admin_client.get(self.ADDRESS).json()["results"]
        assert [each["text"] for each in results] == [f"Organization object ({organization.pk})", GOOD]

    def test_a_vault_that_is_silent_is_waited_for_once_or_twice(self, admin_client, vault, monkeypatch) -> None:
        for number in range(4):
            Patient.objects.create(organization=Organization.objects.create(workos_id=f"org_more_{number}"), ssn="1")
        vault.purge()
        rounds = []

        def silent(keys, deadline):
            rounds.append(len(keys))
            return dict.fromkeys(keys, NoAnswerInTime("silence"))

        monkeypatch.setattr(vault, "_decrypt_many", silent)
        assert len(admin_client.get(self.ADDRESS).json()["results"]) == 6
        assert len(rounds) == 2

    @pytest.mark.urls("tests.admin_site")
    def test_an_admin_without_the_mixin_fails_as_ever(self, admin_client, damages, monkeypatch) -> None:
        complete_searches(EncryptedFieldsMixin)
        monkeypatch.setattr("tests.admin_site.OrganizationAdmin.ordering", ["pk"])
        damages.refused()
        with pytest.raises(VaultRefused):
            admin_client.get(self.ADDRESS)


def test_other_errors_are_those_of_the_page(admin_client, patients, monkeypatch) -> None:
    def broken(patient) -> Never:
        raise ZeroDivisionError

    monkeypatch.setattr(closing_site.PatientAdmin, "list_display", ["name", broken])
    monkeypatch.setattr(closing_site.PatientAdmin, "list_display_links", None)
    with pytest.raises(ZeroDivisionError):
        admin_client.get(changelist(Patient))
    assert Organization.objects.count() == 2
