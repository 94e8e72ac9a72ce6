"""The models of the test suite, one for each way to declare an encrypted field."""

import uuid
from typing import Any

from django.db import models
from django.db.models import Value

from vault_fields import fields
from vault_fields.fields import (
    BlindIndex,
    CompanionField,
    EncryptedJSONField,
    EncryptedTextField,
    EncryptedUniqueConstraint,
    context_from,
)
from vault_fields.normalize import casefold, digits, last_four


class Organization(models.Model):
    workos_id = models.CharField(max_length=100, unique=True)
    region = models.CharField(max_length=50, default="eu")

    def __str__(self) -> str:
        return self.workos_id


class Patient(models.Model):
    """The plain case: the context is a column of the row, and each field has its own companion."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="patients")
    name = models.CharField(max_length=100, default="")
    ssn = EncryptedTextField(key_context=["organization_id"], null=True, blank=True)
    notes = EncryptedTextField(key_context=["organization_id"], null=True, blank=True)
    history = EncryptedJSONField(key_context=["organization_id"], null=True, blank=True, default=dict)


class Document(models.Model):
    """The context lies behind a relation and has a constant item."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    body = EncryptedTextField(key_context={"organization_id": "organization__workos_id", "purpose": Value("documents")})


class Letter(models.Model):
    """Two fields share a companion that the model declares."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    title = models.CharField(max_length=100, default="")
    subject = EncryptedTextField(key_context=["organization_id"], keys_field="vault_keys", null=True)
    text = EncryptedJSONField(key_context=["organization_id"], keys_field="vault_keys", null=True)
    vault_keys = CompanionField()


class Token(models.Model):
    """The value is tied to its row by a key that is known before the row is inserted."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.UUIDField()
    secret = EncryptedTextField(key_context={"tenant_id": "tenant"}, bind_to=["id"])


@context_from("tenant", "kind")
def setting_context(setting: "Setting") -> dict[str, str]:
    return {"tenant": setting.tenant, "kind": setting.kind or "general"}


class Setting(models.Model):
    """The context comes from a function."""

    tenant = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=20, null=True)
    value = EncryptedTextField(key_context=setting_context)


class Secret(models.Model):
    """An abstract model with an encrypted field."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    secret = EncryptedTextField(key_context=["organization_id"])

    class Meta:
        abstract = True


class ApiKey(Secret):
    label = models.CharField(max_length=50, default="")


class Certificate(ApiKey):
    """Multi-table inheritance: the context of the child's own field is a column of the parent."""

    chain = EncryptedTextField(key_context=["organization_id"], null=True)


class WildcardCertificate(Certificate):
    """The context is a column of the parent's parent."""

    pattern = EncryptedTextField(key_context=["organization_id"], null=True)


class Office(models.Model):
    """A parent without encrypted fields."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    # Databases may find this equal to other texts than it is.
    region = models.CharField(max_length=20, default="", editable=False)
    code = models.CharField(max_length=20, null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["code"], name="office_code")]


class Branch(Office):
    secret = EncryptedTextField(key_context=["organization_id"], bind_to=["region"])


class Depot(Office):
    """Another child of the same parent, which has a primary key of its own: a row of the parent may be both."""

    office_ptr = models.OneToOneField(Office, on_delete=models.CASCADE, parent_link=True)
    name = models.CharField(primary_key=True, max_length=20)
    key = EncryptedTextField(key_context=["organization_id"])


class ShortApiKey(ApiKey):
    class Meta:
        proxy = True


class Visit(models.Model):
    """The context starts from the target of a foreign key that does not point to a primary key."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, to_field="workos_id")
    report = EncryptedTextField(key_context=["organization"], null=True)


class Share(models.Model):
    """A composite primary key, one column of which is the context."""

    pk = models.CompositePrimaryKey("organization", "number")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    number = models.IntegerField(editable=False)
    note = EncryptedTextField(key_context=["organization_id"], bind_to=["number"])


class Bookmark(models.Model):
    """A context of two columns, and a value tied to a column that can be edited."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    region = models.CharField(max_length=10)
    slug = models.SlugField(editable=False)
    url = EncryptedTextField(key_context=["organization_id", "region"], bind_to=["slug"])


class PresentManager(models.Manager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(is_gone=False)


class Customer(Secret):
    """A base manager that hides rows."""

    is_gone = models.BooleanField(default=False)
    objects = PresentManager()

    class Meta:
        base_manager_name = "objects"


class Vip(Customer):
    perks = EncryptedJSONField(key_context=["organization_id"], null=True)


class Legacy(models.Model):
    """Still holds plaintext."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    text = EncryptedTextField(key_context=["organization_id"], null=True, migrating=True)
    data = EncryptedJSONField(key_context=["organization_id"], null=True, migrating=True)


class Thread(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)


class Reply(models.Model):
    """The context lies behind two relations: a reply may be given to another thread of the same organization."""

    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="replies")
    text = EncryptedTextField(key_context={"organization_id": "thread__organization__workos_id"})


class Folder(models.Model):
    """The context lies in another row of the same table; that of a root in the row itself."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    parent = models.ForeignKey("self", on_delete=models.PROTECT)
    region = models.CharField(max_length=20, default="")
    text = EncryptedTextField(key_context={"organization_id": "parent__organization_id"}, null=True)


class Contact(models.Model):
    """Values that are found by what they are: in their organization, and in all of them."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="contacts")
    ssn = EncryptedTextField(key_context=["organization_id"], index=True, null=True)
    email = EncryptedTextField(
        key_context=["organization_id"], index=BlindIndex(normalize=casefold, scope="global"), null=True
    )
    # The same value in the clear, which tests compare with.
    plain = models.CharField(max_length=100, null=True)


class Dossier(models.Model):
    """A value that is found, with a key context behind a relation."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)
    number = EncryptedTextField(
        key_context={"organization_id": "organization__workos_id", "purpose": Value("dossiers")}, index=True
    )


class Holder(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT)


class Account(Holder):
    """A value that is found, with a key context in the table of a parent."""

    number = EncryptedTextField(key_context=["organization_id"], index=True)


# Values that are found by several indexes.


class Town(models.Model):
    """A parent of its own: rows of tenants."""

    code = models.CharField(max_length=20, unique=True)


class Citizen(models.Model):
    """One value with a primary index and two that have names; another with one that has a name."""

    town = models.ForeignKey(Town, on_delete=models.PROTECT, related_name="citizens")
    number = EncryptedTextField(
        key_context=["town_id"],
        index=[
            True,
            BlindIndex(name="last4", normalize=last_four),
            BlindIndex(name="anywhere", normalize=digits, scope="global"),
        ],
        null=True,
    )
    surname = EncryptedTextField(
        key_context=["town_id"], index=BlindIndex(name="folded", normalize=casefold), null=True
    )
    # The same in the clear, which tests compare with.
    plain = models.CharField(max_length=100, null=True)


# Found by people: in the admin, and through other packages.


class WholeNumberField(EncryptedTextField):
    """Values that not every text is, as those of a project's own field may be."""

    def to_plaintext(self, value: object) -> str:
        return str(int(str(value)))


class Club(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    club = models.ForeignKey(Club, on_delete=models.PROTECT, related_name="members")
    name = models.CharField(max_length=50)
    ssn = EncryptedTextField(
        key_context=["club_id"],
        index=[True, BlindIndex(name="last4", normalize=last_four, scope="global")],
        null=True,
    )
    number = WholeNumberField(key_context=["club_id"], index="global", null=True)
    email = EncryptedTextField(
        key_context=["club_id"], index=BlindIndex(normalize=casefold, scope="global"), null=True, blank=True
    )

    def __str__(self) -> str:
        return self.name


class Loan(models.Model):
    member = models.ForeignKey(Member, on_delete=models.PROTECT)


# Values that occur once.


class League(models.Model):
    workos_id = models.CharField(max_length=100, unique=True)


class Athlete(models.Model):
    """Values that occur once: in their league, in all of them, and among the athletes who are active."""

    league = models.ForeignKey(League, on_delete=models.PROTECT, related_name="athletes")
    number = EncryptedTextField(
        key_context=["league_id"],
        unique=True,
        null=True,
        blank=True,
        error_messages={"unique": "Somebody has this number."},
    )
    email = EncryptedTextField(
        key_context=["league_id"],
        index=BlindIndex(normalize=casefold, scope="global"),
        unique=True,
        null=True,
        blank=True,
    )
    badge = EncryptedTextField(key_context=["league_id"], index=True, null=True, blank=True)
    team = models.CharField(max_length=20, default="", blank=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            EncryptedUniqueConstraint(fields=["league", "team", "badge"], name="one_badge_in_team"),
            EncryptedUniqueConstraint(
                fields=["league", "badge"], condition=models.Q(is_active=True), name="one_active_badge"
            ),
        ]


class Ticket(models.Model):
    """A value that occurs once in a context behind a relation, whatever row leads to it."""

    athlete = models.ForeignKey(Athlete, on_delete=models.PROTECT)
    code = EncryptedTextField(key_context={"league": "athlete__league__workos_id"}, unique=True)


# A field of each type.


def encrypted(field_class: Any, **options: Any) -> Any:
    """A field of ``Typed``: its value may be missing, and shares a companion with the others."""
    return field_class(key_context=["organization_id"], keys_field="vault_keys", null=True, blank=True, **options)


class Typed(models.Model):
    """A field of each type."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    char = encrypted(fields.EncryptedCharField, max_length=20)
    email = encrypted(fields.EncryptedEmailField)
    url = encrypted(fields.EncryptedURLField)
    slug = encrypted(fields.EncryptedSlugField)
    integer = encrypted(fields.EncryptedIntegerField)
    small = encrypted(fields.EncryptedSmallIntegerField)
    big = encrypted(fields.EncryptedBigIntegerField)
    positive = encrypted(fields.EncryptedPositiveIntegerField)
    positive_small = encrypted(fields.EncryptedPositiveSmallIntegerField)
    positive_big = encrypted(fields.EncryptedPositiveBigIntegerField)
    decimal = encrypted(fields.EncryptedDecimalField, max_digits=8, decimal_places=2)
    float = encrypted(fields.EncryptedFloatField)
    boolean = encrypted(fields.EncryptedBooleanField)
    date = encrypted(fields.EncryptedDateField)
    datetime = encrypted(fields.EncryptedDateTimeField)
    time = encrypted(fields.EncryptedTimeField)
    duration = encrypted(fields.EncryptedDurationField)
    uuid = encrypted(fields.EncryptedUUIDField)
    address = encrypted(fields.EncryptedGenericIPAddressField)
    binary = encrypted(fields.EncryptedBinaryField, editable=True)
    vault_keys = CompanionField()


class Reading(models.Model):
    """Typed values that are required, that are found, and that choose themselves."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    number = fields.EncryptedIntegerField(key_context=["organization_id"], index=True)
    amount = fields.EncryptedDecimalField(max_digits=8, decimal_places=2, key_context=["organization_id"], index=True)
    on = fields.EncryptedDateField(key_context=["organization_id"], index=True)
    level = fields.EncryptedPositiveSmallIntegerField(
        key_context=["organization_id"], choices=[(1, "low"), (2, "high")], default=1
    )
    made = fields.EncryptedDateTimeField(key_context=["organization_id"], auto_now_add=True)
    changed = fields.EncryptedDateTimeField(key_context=["organization_id"], auto_now=True)
    day = fields.EncryptedDateField(key_context=["organization_id"], auto_now_add=True)
    clock = fields.EncryptedTimeField(key_context=["organization_id"], auto_now=True)


class Reader(models.Model):
    """Values that are found by truncated hashes: in the town, by one with a name, and in all towns."""

    town = models.ForeignKey(Town, on_delete=models.PROTECT, related_name="readers")
    card = EncryptedTextField(
        key_context=["town_id"], index=[BlindIndex(bits=8), BlindIndex(name="last4", normalize=last_four)], null=True
    )
    email = EncryptedTextField(
        key_context=["town_id"],
        index=[True, BlindIndex(name="folded", normalize=casefold, bits=8, scope="global")],
        null=True,
    )
    pin = EncryptedTextField(
        key_context={"town": "town__code"}, index=BlindIndex(normalize=digits, bits=8), keys_field="pin_keys", null=True
    )
    pin_keys = CompanionField()
    # The same in the clear, which tests compare with.
    plain = models.CharField(max_length=100, null=True)


class Seat(models.Model):
    """A value that is found by a truncated hash, in a table whose primary key has two columns."""

    pk = models.CompositePrimaryKey("town_id", "number")
    town = models.ForeignKey(Town, on_delete=models.PROTECT)
    number = models.IntegerField()
    guest = EncryptedTextField(key_context=["town_id"], index=BlindIndex(bits=8), null=True)


class Pass(models.Model):
    """A value that is found by a truncated hash, in a table whose primary key is no number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    town = models.ForeignKey(Town, on_delete=models.PROTECT)
    code = EncryptedTextField(key_context=["town_id"], index=BlindIndex(bits=8))
