"""Forms, validation and the admin treat an encrypted field as they treat the plain one."""

import pytest
from django import forms
from django.contrib.admin import ModelAdmin, site
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.test.utils import isolate_apps
from django.utils.translation import gettext_lazy

from tests.testapp.models import Reading, Typed
from tests.types.kinds import KINDS, MOMENT, WRONG
from vault_fields import fields
from vault_fields.fields.unspoken import without_value

each_name = pytest.mark.parametrize("name", KINDS)


# Of the form field of URLs, in Django 5.2.
pytestmark = pytest.mark.filterwarnings("ignore:The default scheme will be changed")


def typed_form(*args, **kwargs):
    return forms.modelform_factory(Typed, exclude=["organization"])(*args, **kwargs)


def options(name):
    return {
        "decimal": {"max_digits": 8, "decimal_places": 2},
        "char": {"max_length": 20},
        "binary": {"editable": True},
    }.get(name, {})


def pair(name, **given):
    """An encrypted field and the plain one, declared alike."""
    kind = KINDS[name]
    given = {**options(name), **given}
    return kind.encrypted(key_context=["organization_id"], **given), kind.plain(**given)


@each_name
def test_the_form_field_and_its_widget_are_those_of_the_plain_field(name) -> None:
    for given in ({}, {"null": True, "blank": True, "help_text": "h", "verbose_name": "v"}):
        encrypted, plain = (each.formfield() for each in pair(name, **given))
        assert type(encrypted) is type(plain)
        if plain is None:
            continue  # That of bytes has no form field.
        assert type(encrypted.widget) is type(plain.widget)
        assert encrypted.widget.attrs == plain.widget.attrs
        for attribute in ("required", "help_text", "label", "initial", "max_length", "min_value", "max_value"):
            assert getattr(encrypted, attribute, None) == getattr(plain, attribute, None)


@each_name
def test_the_widget_of_the_admin_is_that_of_the_plain_field(name) -> None:
    page = ModelAdmin(Typed, site)
    encrypted, plain = (page.formfield_for_dbfield(each, request=None) for each in pair(name))
    assert type(encrypted) is type(plain)
    if plain is not None:
        assert type(encrypted.widget) is type(plain.widget)
        assert encrypted.widget.attrs == plain.widget.attrs
        assert not isinstance(encrypted.widget, forms.Textarea)


@each_name
def test_choices_are_a_select_with_the_values_of_the_plain_field(name) -> None:
    choices = [(value, str(value)) for value in KINDS[name].values if value != ""]
    encrypted, plain = (each.formfield() for each in pair(name, choices=choices))
    assert type(encrypted) is type(plain)
    assert encrypted.choices == plain.choices


def test_the_label_of_a_choice_is_displayed(db) -> None:
    assert Reading(level=2).get_level_display() == "high"


@each_name
def test_a_form_saves_what_it_was_given(organization, stored, name) -> None:
    if name == "binary":
        return
    value = {"char": "Ada", "datetime": MOMENT}.get(name, KINDS[name].values[-1])
    row = Typed(organization=organization)
    bound = typed_form({name: str(value)}, instance=row)
    assert bound.is_valid(), bound.errors
    bound.save()
    loaded = Typed.objects.get()
    assert getattr(loaded, name) == value
    before = stored(loaded, name)
    unchanged = typed_form({name: typed_form(instance=loaded)[name].value()}, instance=loaded)
    assert unchanged.is_valid()
    unchanged.save()
    if name not in {"datetime", "time", "duration"}:  # Their widgets round.
        assert stored(loaded, name) == before


def test_a_form_takes_bytes_as_base64_and_no_envelope(organization) -> None:
    row = Typed(organization=organization)
    bound = typed_form({"binary": "aGk="}, instance=row)
    assert bound.is_valid(), bound.errors
    bound.save()
    loaded = Typed.objects.get()
    assert loaded.binary == b"hi"
    text = Typed._meta.get_field("binary").value_to_string(loaded)
    assert typed_form({"binary": text}, instance=Typed(organization=organization)).errors == {
        "binary": ["This value begins like an encrypted one."]
    }


# What full_clean() of a plain field does not refuse, or not by an error of validation.
AS_PLAIN = [("date", 7), ("datetime", 7), ("binary", "text"), ("binary", 7)]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda each: str(each)[:30])
def test_full_clean_refuses_wrong_values_and_does_not_repeat_them(organization, name, value) -> None:
    if (name, value) in AS_PLAIN:
        return
    row = Typed(organization=organization, **{name: value})
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    errors = caught.value.error_dict
    assert list(errors) == [name]
    assert len(errors[name]) == 1
    for error in errors[name]:
        assert not any(each is value or each == str(value) for each in (error.params or {}).values())
    text = str(caught.value)
    assert "%(" not in text
    if len(str(value)) > 2:
        assert str(value) not in text


@each_name
def test_full_clean_makes_values_of_the_type(organization, name) -> None:
    for given, value in KINDS[name].assigned:
        if given == 0.1:
            continue  # It has more places than the field, in binary.
        row = Typed(organization=organization, **{name: given})
        row.full_clean()
        assert getattr(row, name) == value


def own_messages():
    return {"invalid": gettext_lazy("%(value)s is no number."), "invalid_choice": "%(value)s is not offered."}


def test_messages_of_a_project_that_repeat_the_value_are_replaced() -> None:
    field = fields.EncryptedIntegerField(
        key_context=["a"], error_messages=own_messages(), choices=[(1, "one")], validators=[MinValueValidator(0)]
    )
    with pytest.raises(ValidationError) as caught:
        field.clean("078-05", None)
    assert (caught.value.messages, caught.value.code) == (["Enter a valid value."], "invalid")
    with pytest.raises(ValidationError) as caught:
        field.clean(7, None)
    assert (caught.value.messages, caught.value.code) == (["Enter a valid value."], "invalid_choice")


def test_validators_keep_their_messages_without_the_value() -> None:
    field = fields.EncryptedIntegerField(
        key_context=["a"], validators=[MinValueValidator(10), MaxValueValidator(lambda: 20), MinValueValidator(5)]
    )
    assert sum(isinstance(each, (MinValueValidator, MaxValueValidator)) for each in field.validators) == 3
    with pytest.raises(ValidationError) as caught:
        field.clean(3, None)
    assert caught.value.messages == [
        "Ensure this value is greater than or equal to 10.",
        "Ensure this value is greater than or equal to 5.",
    ]
    assert [error.params for error in caught.value.error_list] == [{"limit_value": 10}, {"limit_value": 5}]


def test_a_text_that_is_too_long_tells_lengths_and_not_the_text() -> None:
    field = fields.EncryptedCharField(key_context=["a"], max_length=3)
    with pytest.raises(ValidationError) as caught:
        field.clean("secret", None)
    assert caught.value.messages == ["Ensure this value has at most 3 characters (it has 6)."]
    assert caught.value.error_list[0].params == {"limit_value": 3, "show_value": 6}


def test_a_validator_with_the_value_in_its_words_is_reworded() -> None:
    validator = RegexValidator("^x$", message="%(value)s is not x.", code="no_x")
    field = fields.EncryptedTextField(key_context=["a"], validators=[validator])
    with pytest.raises(ValidationError) as caught:
        field.clean("secret", None)
    assert (caught.value.messages, caught.value.error_list[0].code) == (["Enter a valid value."], "no_x")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValidationError("%(show_value)s", params={"show_value": "secret"}), "Enter a valid value."),
        (ValidationError("100 %", params={"value": "secret"}), "Enter a valid value."),
        (ValidationError("of %(kind)s", params={"kind": "a kind", "value": "secret"}), "of a kind"),
        (ValidationError("plain"), "plain"),
        (ValidationError(["first", "second"]), "first"),
    ],
)
def test_an_error_without_its_value(error, message) -> None:
    assert without_value(error, "secret").messages[0] == message


def test_max_length_is_that_of_the_value_and_save_does_not_enforce_it(organization) -> None:
    """The column is one of text, as on SQLite for a plain field."""
    row = Typed.objects.create(organization=organization, char="x" * 21)
    assert Typed.objects.get(pk=row.pk).char == "x" * 21


@isolate_apps("tests.testapp")
def test_a_text_without_a_length_passes_the_checks() -> None:
    class Free(models.Model):
        tenant = models.IntegerField()
        text = fields.EncryptedCharField(key_context=["tenant"])
        slug = fields.EncryptedSlugField(key_context=["tenant"])
        wrong = fields.EncryptedCharField(key_context=["tenant"], max_length=-1)

        class Meta:
            app_label = "testapp"

    assert [(error.id, error.obj.name) for error in Free.check()] == [("fields.E121", "wrong")]
