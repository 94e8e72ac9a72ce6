"""URLs for any project: ``path("webhooks/vault/", include("vault_fields.webhooks.urls"))``."""

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from vault_fields.webhooks.receiver import receive

__all__ = ["urlpatterns"]


# The signature stands in for session and token, and nothing in the database changes.
@csrf_exempt
@login_not_required
@transaction.non_atomic_requests
def _receive(request: HttpRequest) -> HttpResponse:
    return receive(request)


urlpatterns = [path("", _receive, name="vault_webhook")]
