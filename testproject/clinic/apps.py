"""The application of the example project."""

from django.apps import AppConfig


class ClinicConfig(AppConfig):
    name = "testproject.clinic"
    label = "clinic"
