"""Models as the packages want them: of each a pair, as it is usually written, and as it is to be."""

from typing import ClassVar

from dirtyfields import DirtyFieldsMixin
from django.db import models
from django_lifecycle import AFTER_CREATE, AFTER_SAVE, BEFORE_UPDATE, LifecycleModelMixin, hook
from django_lifecycle.conditions import WhenFieldHasChanged, WhenFieldValueIs, WhenFieldValueWas
from model_utils import FieldTracker
from simple_history.models import HistoricalRecords
from wagtail.models import DraftStateMixin, RevisionMixin

from tests.testapp.models import League, Organization
from vault_fields.fields import EncryptedJSONField, EncryptedTextField


class Person(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="%(class)ss")
    name = models.CharField(max_length=100, default="")
    ssn = EncryptedTextField(key_context=["organization_id"])
    history = EncryptedJSONField(key_context=["organization_id"])

    class Meta:
        abstract = True


class Cached(Person):
    """All that is asked of it is cached."""


class CachedOnRequest(Person):
    """Cached is what says so."""


class Tracked(Person):
    tracker = FieldTracker()


class TrackedByName(Person):
    tracker = FieldTracker(fields=["name"])


class Dirty(DirtyFieldsMixin, Person):
    pass


class DirtyByName(DirtyFieldsMixin, Person):
    FIELDS_TO_CHECK: ClassVar = ["name"]


class Remembering(LifecycleModelMixin, Person):
    heard: ClassVar[list[str]] = []

    @hook(AFTER_SAVE, when="ssn", was="first")
    def was(self) -> None:
        self.heard.append("was")

    @hook(AFTER_SAVE, condition=WhenFieldValueWas("ssn", "first") | WhenFieldHasChanged("name", has_changed=True))
    def was_or_changed(self) -> None:
        self.heard.append("was or changed")


class Watching(LifecycleModelMixin, Person):
    heard: ClassVar[list[str]] = []

    @hook(AFTER_CREATE, when="ssn", has_changed=True)
    def changed_while_created(self) -> None:
        self.heard.append("changed while created")

    @hook(BEFORE_UPDATE, when="ssn", has_changed=True)
    def changed(self) -> None:
        self.heard.append("changed")

    @hook(AFTER_SAVE, condition=WhenFieldHasChanged("ssn", has_changed=True) & WhenFieldValueIs("ssn", "second"))
    def is_now(self) -> None:
        self.heard.append("is second")


class Article(DraftStateMixin, RevisionMixin, Person):
    """With drafts, which Wagtail keeps."""


class Recorded(Person):
    records = HistoricalRecords()


class Subscriber(models.Model):
    """A value that occurs once here, and as often as it was saved in the table of history."""

    league = models.ForeignKey(League, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=20, default="")
    number = EncryptedTextField(key_context=["league_id"], unique=True, null=True)
    records = HistoricalRecords()


class Found(Person):
    """A value that is found, and asked for through caches."""

    number = EncryptedTextField(key_context=["organization_id"], index=True, null=True)


class FoundAndCompared(DirtyFieldsMixin, models.Model):
    """A value that is found, beside a package that tells what has changed in the fields that it is to check."""

    FIELDS_TO_CHECK: ClassVar = ["name", "number_index"]

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    name = models.CharField(max_length=100, default="")
    number = EncryptedTextField(key_context=["organization_id"], index=True, null=True)
    records = HistoricalRecords()
