"""The encrypted counterparts of Django's fields, apart from text and JSON."""
