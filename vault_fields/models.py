"""The table of index keys: one row for each key context that has a blind index, in the database of its rows."""

from django.db import models
from django.utils import timezone

__all__ = ["IndexKey"]


class IndexKey(models.Model):
    """
    The index key of one key context, wrapped by its Vault. ``companion`` has the form of the companions of rows.

    Deleting a row makes the hashes that were made with it useless: ``manage.py vault_index --rebuild`` makes others.
    """

    vault = models.CharField(max_length=200)
    context_hash = models.CharField(max_length=64)
    generation = models.PositiveIntegerField(default=1)
    companion = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    # When a rotation had given every row hashes of this generation.
    rewritten_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vault", "context_hash", "generation"], name="vault_fields_one_index_key")
        ]

    def __str__(self) -> str:
        return f"index key {self.pk}"
