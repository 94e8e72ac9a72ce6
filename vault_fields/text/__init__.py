"""Texts of messages and settings: counts, names that may be shown, and placeholders of secrets."""
