"""Webhooks of WorkOS, received: a customer's key that was withdrawn is forgotten here at once."""
