"""Forms with closed fields, by themselves."""

import pytest
from django import forms
from django.db import connection
from django.forms import CharField, ModelForm, modelform_factory
from django.http import QueryDict

from tests.admin.test_closed import inputs
from tests.testapp.models import Branch, Document, Legacy, Patient, Share
from vault_fields.admin.forms import closing
from vault_fields.exceptions import VaultUnavailable
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


class Noted(ModelForm):
    remark = CharField()


def test_a_form_is_closed_once() -> None:
    form = closing(modelform_factory(Document, fields=["body"]))
    assert closing(form) is form


def test_a_form_that_has_nothing_to_save_saves_nothing(organization, execute, stored) -> None:
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


@pytest.mark.parametrize("column", ["text", "text_keys"])
def test_what_is_no_text_is_left_where_plaintext_may_stand(organization, execute, stored, column) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("Elsewhere a column of text takes nothing else.")
    legacy = Legacy.objects.create(organization=organization, text="gout")
    execute(f"UPDATE testapp_legacy SET {column} = x'c328'")
    before = stored(legacy, "text", "text_keys")
    form = closing(modelform_factory(Legacy, fields=["data"]))({"data": "[2]"}, instance=Legacy.objects.get())
    assert form.is_valid()
    form.save()
    assert stored(legacy, "text", "text_keys") == before
    assert Legacy.objects.get().data == [2]


def test_columns_of_the_primary_key_stay(organization, execute) -> None:
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
            def clean(self) -> None:
                for name, value in values.items():
                    setattr(getattr(self, "instance", self), name, value)

            if request.param == "model":
                monkeypatch.setattr(model, "clean", clean)
            own = {"clean": clean} if request.param == "form" else {}
            return closing(modelform_factory(model, form=type("Own", (ModelForm,), own), fields=fields))

        return form

    @pytest.mark.parametrize("deferred", [[], ["organization"]])
    def test_to_another_tenant(self, moving, organization, other_organization, stored, deferred) -> None:
        patient = Patient.objects.create(organization=organization, name="Ada", ssn="gout")
        before = stored(patient, "ssn_keys")
        form = moving(Patient, ["name", "ssn"], organization=other_organization)
        bound = form({"name": "Bo", "ssn": "gout"}, instance=Patient.objects.defer(*deferred).get())
        assert bound.is_valid()
        bound.save()
        saved = Patient.objects.get()
        assert (saved.name, saved.organization, saved.ssn) == ("Bo", other_organization, "gout")
        assert stored(patient, "ssn_keys") != before

    def test_in_a_column_that_a_value_is_bound_to(self, moving, organization) -> None:
        Branch.objects.create(organization=organization, region="eu", code="1", secret="gout")
        bound = moving(Branch, ["code", "secret"], region="us")(
            {"code": "2", "secret": "gout"}, instance=Branch.objects.get()
        )
        assert bound.is_valid()
        bound.save()
        saved = Branch.objects.get()
        assert (saved.code, saved.region, saved.secret) == ("2", "us", "gout")

    def test_not_if_a_value_does_not_open(self, moving, organization, other_organization, execute, stored) -> None:
        patient = Patient.objects.create(organization=organization, name="Ada", ssn="gout")
        execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60)")
        before = stored(patient, "name", "organization_id", "ssn", "ssn_keys")
        form = moving(Patient, ["name", "ssn"], organization=other_organization)
        bound = form({"name": "Bo", "ssn-closed": "1"}, instance=Patient.objects.get())
        (error,) = bound.non_field_errors()
        assert error.startswith("Cannot be opened: it is damaged. So the row cannot be changed in what decides about")
        assert stored(patient, "name", "organization_id", "ssn", "ssn_keys") == before

    def test_one_that_was_moved_by_sql_stays_there(self, organization, other_organization, execute, stored) -> None:
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


AB = [("a", "A"), ("b", "B")]


class PartsWidget(forms.MultiWidget):
    def decompress(self, value):
        return [None, None]


class PartsField(forms.MultiValueField):
    def __init__(self, **kwargs):
        widget = PartsWidget([forms.Select(choices=AB), forms.TextInput])
        super().__init__([forms.ChoiceField(choices=AB), CharField()], widget=widget, **kwargs)

    def compress(self, parts):
        return "".join(parts)


class TestWidgets:
    """What browsers post of widgets that nobody has touched is nothing that was entered."""

    @pytest.fixture(
        params=[
            (CharField, {}, {"ssn": "new"}, "new"),
            (forms.ChoiceField, {"choices": AB}, {"ssn": "b"}, "b"),
            (forms.ChoiceField, {"choices": [("Both", AB)]}, {"ssn": "b"}, "b"),
            (forms.ChoiceField, {"choices": [*AB, ("", "none")]}, {"ssn": "a"}, "a"),
            (forms.ChoiceField, {"choices": AB, "widget": forms.RadioSelect}, {"ssn": "a"}, "a"),
            (forms.MultipleChoiceField, {"choices": AB}, {"ssn": ["a"]}, "['a']"),
            (forms.NullBooleanField, {}, {"ssn": "true"}, "True"),
            (forms.BooleanField, {}, {"ssn": "on"}, "True"),
            (forms.SplitDateTimeField, {}, {"ssn_0": "2020-02-02", "ssn_1": "12:00"}, "2020-02-02 12:00:00-06:00"),
            (PartsField, {}, {"ssn_0": "b", "ssn_1": "c"}, "bc"),
        ],
        ids=lambda param: f"{param[0].__name__}-{len(param[1].get('choices', ()))}",
    )
    def widget(self, request):
        kind, options, entered, value = request.param

        def clean_ssn(self):
            return str(self.cleaned_data["ssn"])

        form = type("Own", (ModelForm,), {"ssn": kind(**options), "clean_ssn": clean_ssn})
        return closing(modelform_factory(Patient, form=form, fields=["name", "ssn"])), entered, value

    @pytest.fixture
    def patient(self, organization):
        return Patient.objects.create(organization=organization, name="Ada", ssn="gout")

    @pytest.fixture
    def untouched(self, widget, patient):
        form, _, _ = widget

        def posted():
            return inputs(f"<form id=own_form>{form(instance=Patient.objects.get())}") | {"name": "Bo"}

        return posted

    def test_one_that_is_left_alone(self, widget, untouched, patient, execute, stored) -> None:
        execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60)")
        before = stored(patient, "ssn", "ssn_keys")
        bound = widget[0](untouched(), instance=Patient.objects.get())
        assert bound.is_valid(), bound.errors
        assert bound.ignored == []
        bound.save()
        assert stored(patient, "name", "ssn", "ssn_keys") == ("Bo", *before)

    @pytest.mark.parametrize("when", ["shown", "sent"])
    def test_while_the_vault_is_away(self, widget, untouched, patient, vault, execute, stored, when) -> None:
        if when == "sent":
            execute('UPDATE testapp_patient SET ssn_keys = REPLACE(ssn_keys, \'"keys":"\', \'"keys":"AAAA\')')
            posted = untouched()
        before = stored(patient, "ssn", "ssn_keys")
        vault.purge()
        with vault.fail_with(VaultUnavailable("no answer")):
            posted = untouched() if when == "shown" else posted
            bound = widget[0](posted, instance=Patient.objects.get())
            assert bound.is_valid(), bound.errors
            assert bound.ignored == []
            bound.save()
        assert stored(patient, "name", "ssn", "ssn_keys") == ("Bo", *before)

    def test_what_is_entered_needs_the_box(self, widget, untouched, execute, patient) -> None:
        form, entered, value = widget
        execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60)")
        posted = QueryDict(mutable=True)
        for name, each in (untouched() | entered).items():
            posted.setlist(name, each if isinstance(each, list) else [each])
        bound = form(posted, instance=Patient.objects.get())
        assert "tick the box" in bound.errors["ssn"][0]
        posted["ssn-replace"] = "1"
        bound = form(posted, instance=Patient.objects.get())
        assert bound.is_valid(), bound.errors
        bound.save()
        assert Patient.objects.get().ssn == value


def test_a_field_that_is_taken_out_of_the_form_is_left(organization, execute, stored) -> None:
    """As the admin does with those of rows in a list that may not be changed."""
    document = Document.objects.create(organization=organization, body="gout")
    execute("UPDATE testapp_document SET body = SUBSTR(body, 1, 60)")
    before = stored(document, "body", "body_keys")
    form = closing(modelform_factory(Document, fields=["body"]))
    bound = form({"body": "new"}, instance=Document.objects.get())
    del bound.fields["body"]
    assert bound.is_valid()
    bound.save()
    assert stored(document, "body", "body_keys") == before
