"""Forms with closed fields, by themselves."""

import pytest
from django.forms import CharField, ModelForm, modelform_factory

from tests.testapp.models import Branch, Document, Patient, Share
from vault_fields.admin.forms import closing
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


class Noted(ModelForm):
    remark = CharField()


def test_a_form_is_closed_once():
    form = closing(modelform_factory(Document, fields=["body"]))
    assert closing(form) is form


def test_a_form_that_has_nothing_to_save_saves_nothing(organization, execute, stored):
    document = Document.objects.create(organization=organization, body="gout")
    execute("UPDATE testapp_document SET body = %s", "stray plaintext")
    vaults["default"].purge()
    before = stored(document, "body", "body_keys", "organization_id")
    form = closing(modelform_factory(Document, form=Noted, fields=["body"]))
    bound = form({"remark": "looked at", "body-closed": "1"}, instance=Document.objects.get())
    assert bound.is_valid()
    assert list(bound.closed) == ["body"]
    assert bound.save().pk == document.pk
    assert stored(document, "body", "body_keys", "organization_id") == before


def test_columns_of_the_primary_key_stay(organization, execute):
    Share.objects.create(organization=organization, number=1, note="gout")
    execute("UPDATE testapp_share SET note = %s", "stray plaintext")
    form = closing(modelform_factory(Share, form=Noted, fields=["note"]))
    share = Share.objects.get()
    bound = form({"remark": "looked at", "note-closed": "1"}, instance=share)
    assert bound.is_valid()
    bound.save()
    assert share.__dict__.keys() >= {"organization_id", "number"}
    assert "note" not in share.__dict__


class TestRowsThatTheProjectMoves:
    """In ``clean()`` of a form or a model: ``changed_data`` has nothing of it."""

    @pytest.fixture(params=["form", "model"])
    def moving(self, request, monkeypatch):
        """A form for a model that sets what it is given, and fields of the form."""

        def form(model, fields, **values):
            def clean(self):
                for name, value in values.items():
                    setattr(getattr(self, "instance", self), name, value)

            if request.param == "model":
                monkeypatch.setattr(model, "clean", clean)
            own = {"clean": clean} if request.param == "form" else {}
            return closing(modelform_factory(model, form=type("Own", (ModelForm,), own), fields=fields))

        return form

    @pytest.mark.parametrize("deferred", [[], ["organization"]])
    def test_to_another_tenant(self, moving, organization, other_organization, stored, deferred):
        patient = Patient.objects.create(organization=organization, name="Ada", ssn="gout")
        before = stored(patient, "ssn_keys")
        form = moving(Patient, ["name", "ssn"], organization=other_organization)
        bound = form({"name": "Bo", "ssn": "gout"}, instance=Patient.objects.defer(*deferred).get())
        assert bound.is_valid()
        bound.save()
        saved = Patient.objects.get()
        assert (saved.name, saved.organization, saved.ssn) == ("Bo", other_organization, "gout")
        assert stored(patient, "ssn_keys") != before

    def test_in_a_column_that_a_value_is_bound_to(self, moving, organization):
        Branch.objects.create(organization=organization, region="eu", code="1", secret="gout")
        bound = moving(Branch, ["code", "secret"], region="us")(
            {"code": "2", "secret": "gout"}, instance=Branch.objects.get()
        )
        assert bound.is_valid()
        bound.save()
        saved = Branch.objects.get()
        assert (saved.code, saved.region, saved.secret) == ("2", "us", "gout")

    def test_not_if_a_value_does_not_open(self, moving, organization, other_organization, execute, stored):
        patient = Patient.objects.create(organization=organization, name="Ada", ssn="gout")
        execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60)")
        before = stored(patient, "name", "organization_id", "ssn", "ssn_keys")
        form = moving(Patient, ["name", "ssn"], organization=other_organization)
        bound = form({"name": "Bo", "ssn-closed": "1"}, instance=Patient.objects.get())
        (error,) = bound.non_field_errors()
        assert error.startswith("Cannot be opened: it is damaged. So the row cannot be changed in what decides about")
        assert stored(patient, "name", "organization_id", "ssn", "ssn_keys") == before

    def test_one_that_was_moved_by_sql_stays_there(self, organization, other_organization, execute, stored):
        patient = Patient.objects.create(organization=organization, name="Ada", ssn="gout")
        execute("UPDATE testapp_patient SET organization_id = %s", other_organization.pk)
        before = stored(patient, "organization_id", "ssn", "ssn_keys")
        for columns in (["ssn", "organization"], ["name"]):
            form = closing(modelform_factory(Patient, fields=["name", *columns]))
            posted = {"name": "Bo", "ssn-closed": "1", "organization": other_organization.pk}
            bound = form(posted, instance=Patient.objects.get())
            assert bound.is_valid()
            bound.save()
            assert stored(patient, "organization_id", "ssn", "ssn_keys") == before
        assert stored(patient, "name") == ("Bo",)
