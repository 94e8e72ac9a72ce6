"""Stand-ins for packages that the suite does without."""

from types import SimpleNamespace


class Auditlog:
    """As ``auditlog.registry.auditlog``: models, and which of their fields are logged."""

    def __init__(self):
        self.models = {}

    def register(self, model, include_fields=(), exclude_fields=()):
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
