"""Stand-ins for packages that the suite does without."""

import sys
from types import SimpleNamespace

from django.conf import settings
from django.db.models.signals import class_prepared


class Auditlog:
    """As ``auditlog.registry.auditlog``: models, and which of their fields are logged."""

    def __init__(self):
        self.models = {}

    def register(self, model, include_fields=(), exclude_fields=()) -> None:
        self.models[model] = {"include_fields": [*include_fields], "exclude_fields": [*exclude_fields]}

    def get_models(self):
        return list(self.models)

    def get_model_fields(self, model):
        return self.models[model]


class Filters:
    """As ``django_filters.filterset``: a filter for every field of the model but those that are excluded."""

    def __init__(self):
        class FilterSet:
            def __init_subclass__(cls):
                meta = cls.__dict__.get("Meta", SimpleNamespace())
                model, exclude = getattr(meta, "model", None), getattr(meta, "exclude", ())
                cls._meta = SimpleNamespace(model=model)
                fields = model._meta.concrete_fields if model is not None else ()
                names = [field.name for field in fields if field.name not in exclude]
                lookup = getattr(meta, "lookup", "exact")
                cls.base_filters = {name: SimpleNamespace(field_name=name, lookup_expr=lookup) for name in names}

        self.FilterSet = FilterSet


class Resources:
    """As ``import_export.resources``: a resource has every field of its model but those that it excludes."""

    def __init__(self):
        class ModelResource:
            def __init_subclass__(cls):
                meta = cls.__dict__.get("Meta", SimpleNamespace())
                model, exclude = getattr(meta, "model", None), getattr(meta, "exclude", ())
                cls._meta = SimpleNamespace(model=model)
                fields = model._meta.concrete_fields if model is not None else ()
                cls.fields = {field.name: field for field in fields if field.name not in exclude}

        self.ModelResource = ModelResource

    def resource(self, model, base=None, exclude=()):
        meta = SimpleNamespace(model=model, exclude=exclude)
        return type("Resource", (base or self.ModelResource,), {"Meta": meta})


class RestFramework:
    """As ``rest_framework.generics``, ``.filters`` and ``.serializers``: a view orders by what its serializer has."""

    def __init__(self):
        class GenericAPIView:
            queryset = serializer_class = None
            filter_backends = ()

        class OrderingFilter:
            ordering_fields = None

        class SearchFilter:
            pass

        class ModelSerializer:
            @property
            def fields(self):
                names = self.Meta.fields
                return {name: SimpleNamespace(source=name, write_only=name == self.Meta.hidden) for name in names}

        self.GenericAPIView, self.ModelSerializer = GenericAPIView, ModelSerializer
        self.OrderingFilter, self.SearchFilter = OrderingFilter, SearchFilter

    def install(self, monkeypatch) -> None:
        for name in ("rest_framework.filters", "rest_framework.generics"):
            monkeypatch.setitem(sys.modules, name, self)

    def serializer(self, model, *fields, hidden=None):
        meta = SimpleNamespace(model=model, fields=fields, hidden=hidden)
        return type("Serializer", (self.ModelSerializer,), {"Meta": meta})

    def view(self, model=None, **options):
        queryset = SimpleNamespace(model=model) if model is not None else None
        return type("View", (self.GenericAPIView,), {"queryset": queryset, **options})


class Cacheops:
    """As ``cacheops.conf``: what the setting says of a model."""

    def model_profile(self, model):
        profile = getattr(settings, "CACHEOPS", {}).get(model._meta.label_lower)
        return profile and profile | {
            "ops": {"get", "fetch", "count"} if profile["ops"] == "all" else {*profile["ops"]}
        }


class FieldTracker:
    """As ``model_utils.tracker.FieldTracker``: of the fields that it names, or of all."""

    def __init__(self, fields=None):
        self.fields = fields

    def contribute_to_class(self, cls, name) -> None:
        class_prepared.connect(self.prepare, sender=cls)
        setattr(cls, name, self)

    def prepare(self, sender, **kwargs) -> None:
        self.fields = set(self.fields or [field.attname for field in sender._meta.fields])


class DirtyFieldsMixin:
    """As ``dirtyfields.dirtyfields.DirtyFieldsMixin``."""

    FIELDS_TO_CHECK = None


class When:
    """As ``django_lifecycle.conditions.legacy.When``."""

    when, when_any, was, was_not, changes_to, has_changed = None, None, "*", None, None, None

    def __init__(self, **options):
        vars(self).update(options)


class WhenFieldValueWas:
    """As ``django_lifecycle.conditions.WhenFieldValueWas``."""

    def __init__(self, field_name):
        self.field_name = field_name


class LifecycleModelMixin:
    """As ``django_lifecycle.mixins.LifecycleModelMixin``."""

    @classmethod
    def _potentially_hooked_methods(cls):
        return [method for method in vars(cls).values() if hasattr(method, "_hooked")]


def hook(moment, condition=None, **options):
    """As ``django_lifecycle.hook``."""

    def decorator(method):
        method._hooked = [SimpleNamespace(hook=moment, condition=condition or When(**options))]
        return method

    return decorator


# The modules that these classes stand for.
MODULES = {
    "cacheops.conf": Cacheops(),
    "dirtyfields.dirtyfields": SimpleNamespace(DirtyFieldsMixin=DirtyFieldsMixin),
    "django_lifecycle.mixins": SimpleNamespace(LifecycleModelMixin=LifecycleModelMixin),
    "model_utils.tracker": SimpleNamespace(FieldTracker=FieldTracker),
}


def install(monkeypatch) -> None:
    """Let the packages of these modules be imported already."""
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
