"""URLs for any project: ``path("", include("vault_fields.server.urls"))``, served as ``VAULT_SERVER`` says."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from vault_fields.server.configuration import configured_face
from vault_fields.server.face import PATHS, Operation, safely

__all__ = ["urlpatterns"]


def _view(operation: Operation) -> Callable[[HttpRequest], HttpResponse]:
    # Bearers stand in for sessions, and the keystore is outside of Django's transactions.
    @csrf_exempt
    @login_not_required
    @transaction.non_atomic_requests
    def view(request: HttpRequest) -> HttpResponse:
        return safely(configured_face, request, operation)

    return view


urlpatterns = [path(route, _view(operation)) for route, operation in PATHS.items()]
