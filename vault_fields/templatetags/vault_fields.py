"""``{% load vault_fields %}``: values that may not open, in a template."""

from django.template import Library

from vault_fields.fields import try_open

__all__ = ["register"]

register = Library()

# {{ patient|try_open:"ssn" }} is the value or the reason; {% with ssn=patient|try_open:"ssn" %} has both apart.
register.filter("try_open", try_open)
