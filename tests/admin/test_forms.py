"""Forms with closed fields, by themselves."""

import pytest
from django.forms import CharField, ModelForm, modelform_factory

from tests.testapp.models import Document, Share
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
