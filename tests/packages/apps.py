"""The models of tests/packages, as an app."""

from django.apps import AppConfig


class Packages(AppConfig):
    name = "tests.packages"
    label = "packages"
    default_auto_field = "django.db.models.BigAutoField"
