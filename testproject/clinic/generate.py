"""Thousands of rows for the clinic, the same on every run: three scripts, emoji, NULLs, empty and long texts."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from faker import Faker

__all__ = ["Rows", "generate"]

Row = dict[str, Any]

LOCALES = ("en_US", "ar", "zh_CN")
REGIONS = ("eu", "us", "as")
EMOJI = ("🩺", "💊", "👩🏽‍⚕️", "🏥", "❤️‍🩹", "🧬")


@dataclass(frozen=True)
class Rows:
    """What goes into each table, by model name and in the order that foreign keys need. Primary keys are given."""

    organization: list[Row]
    patient: list[Row]
    note: list[Row]
    document: list[Row]
    referral: list[Row]


def generate(*, organizations: int = 12, patients: int = 2_000, seed: int = 2026) -> Rows:
    """About ``2.5 × patients`` rows. The same arguments give the same rows."""
    return _Generator(organizations, patients, seed).rows()


class _Generator:
    def __init__(self, organizations: int, patients: int, seed: int) -> None:
        self.organizations = organizations
        self.patients = patients
        self.random = random.Random(seed)
        self.fakers = [Faker(locale) for locale in LOCALES]
        for number, faker in enumerate(self.fakers):
            faker.seed_instance(seed + number)

    def rows(self) -> Rows:
        return Rows(
            organization=[self.organization(pk) for pk in range(1, self.organizations + 1)],
            patient=[self.patient(pk) for pk in range(1, self.patients + 1)],
            note=[self.note(pk) for pk in range(1, self.patients * 3 // 4 + 1)],
            document=[self.document(pk) for pk in range(1, self.patients // 2 + 1)],
            referral=[self.referral(pk) for pk in range(1, self.patients // 4 + 1)],
        )

    def organization(self, pk: int) -> Row:
        return {
            "id": pk,
            "workos_id": f"org_{pk:02}{self.random.getrandbits(64):016x}",
            "name": self.faker(pk).company(),
        }

    def patient(self, pk: int) -> Row:
        faker = self.faker(pk)
        return {
            "id": pk,
            "organization_id": self.an_organization(),
            "born": self.day(),
            "name": faker.name(),
            "ssn": self.sometimes(faker.ssn, none=10, empty=5),
            "history": self.history(faker),
        }

    def note(self, pk: int) -> Row:
        return {
            "id": pk,
            "organization_id": self.an_organization(),
            "written": self.day(),
            "text": self.sometimes(lambda: self.text(self.faker(pk)), none=0, empty=5) or "",
        }

    def document(self, pk: int) -> Row:
        faker = self.faker(pk)
        return {
            "id": pk,
            "patient_id": self.random.randint(1, self.patients),
            "kind": self.random.choice(("Consent", "Invoice", "Laboratory", "Letter")),
            "title": faker.sentence(nb_words=6),
            "content": self.content(faker),
        }

    def referral(self, pk: int) -> Row:
        return {
            "id": pk,
            "organization_id": self.an_organization(),
            "region": self.random.choice(REGIONS),
            "letter": self.sometimes(lambda: self.text(self.faker(pk)), none=10, empty=5),
        }

    def faker(self, number: int) -> Faker:
        return self.fakers[number % len(self.fakers)]

    def an_organization(self) -> int:
        return self.random.randint(1, self.organizations)

    def day(self) -> date:
        return date(1930, 1, 1) + timedelta(days=self.random.randrange(35_000))

    def sometimes(self, make: Callable[[], str], *, none: int, empty: int) -> str | None:
        """NULL, or empty, in so many percent of the rows."""
        drawn = self.random.randrange(100)
        if drawn < none:
            return None
        return "" if drawn < none + empty else make()

    def text(self, faker: Faker) -> str:
        paragraphs = [str(faker.paragraph()) for _ in range(self.random.randint(1, 4))]
        if self.random.random() < 0.01:
            paragraphs *= 50
        return f"{self.random.choice(EMOJI)} " + "\n\n".join(paragraphs)

    def history(self, faker: Faker) -> Row:
        """Nested as records grow: lists of objects, absent parts, false, zero and null beside real values."""
        if self.random.random() < 0.05:
            return {}
        return {
            "address": {"street": faker.street_address(), "city": faker.city()},
            "allergies": [faker.word() for _ in range(self.random.randrange(4))],
            "insured": self.random.random() < 0.8,
            "visits": [
                {
                    "day": self.day().isoformat(),
                    "complaint": faker.sentence(),
                    "pain": self.random.randrange(11),
                    "pulse": {"rest": self.random.randint(50, 90), "load": None},
                    "mood": self.random.choice(EMOJI),
                }
                for _ in range(self.random.randrange(4))
            ],
        }

    def content(self, faker: Faker) -> Any:
        """Any JSON: a document is whatever its sender made of it."""
        makers: list[Callable[[], Any]] = [
            lambda: None,
            lambda: "",
            lambda: 0,
            lambda: False,
            list,
            lambda: self.text(faker),
            lambda: [[self.random.random(), [str(faker.sentence()), {"deep": {"deeper": [None, str(faker.name())]}}]]],
            lambda: {"from": str(faker.name()), "total": self.random.randrange(10**12), "paid": None},
        ]
        return self.random.choice(makers)()
