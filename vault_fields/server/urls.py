"""URLs for any project: ``path("", include("vault_fields.server.urls"))``, served as ``VAULT_SERVER`` says."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from vault_fields.server.api import safely
from vault_fields.server.configuration import configured_api
from vault_fields.server.routes import VAULT, Route

__all__ = ["urlpatterns"]


def _view(route: Route) -> Callable[..., HttpResponse]:
    # API keys stand in for sessions, and the keystore is outside of Django's transactions.
    @csrf_exempt
    @login_not_required
    @transaction.non_atomic_requests
    def view(request: HttpRequest, **parameters: str) -> HttpResponse:
        return safely(configured_api, request, route, parameters)

    return view


urlpatterns = [path(route.pattern, _view(route)) for route in VAULT]
