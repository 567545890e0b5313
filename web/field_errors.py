"""All fields of a body that do not fit its type; msgspec stops at the first, so this walks only what it has refused."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from jobs.mall.orders import FieldError, field_of

MAX_ERRORS = 100


def field_errors(value: Any, kind: Any, where: str = "") -> list[FieldError]:
    """Every field that is missing, unknown or of the wrong kind, MAX_ERRORS at most. `Any`: JSON, and a type for msgspec."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, UnionType) and value is not None:
        others = [one for one in get_args(bare) if one is not type(None)]
        return field_errors(value, others[0], where) if len(others) == 1 else _fit(value, kind, where)
    if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return _of_struct(value, bare, where)
    if isinstance(value, list) and get_origin(bare) is list:
        limits = getattr(kind, "__metadata__", ())
        found = _fit([None] * len(value), Annotated[list[Any], *limits], where) if limits else []
        for number, item in enumerate(value if not found else ()):
            found += field_errors(item, get_args(bare)[0], f"{where}[{number}]")
            if len(found) >= MAX_ERRORS:
                break
        return found[:MAX_ERRORS]
    return _fit(value, kind, where)


def _of_struct(value: dict[str, Any], kind: type[msgspec.Struct], where: str) -> list[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found: list[FieldError] = []
    for name, field in fields.items():
        path = f"{where}.{name}" if where else name
        if name in value:
            found += field_errors(value[name], field.type, path)
        elif field.required:
            found.append(FieldError(path, "missing required field"))
    if kind.__struct_config__.forbid_unknown_fields:
        unknown = [name for name in value if name not in fields]
        found += [FieldError(f"{where}.{name}" if where else name, "unknown field") for name in unknown[:MAX_ERRORS]]
    return found[:MAX_ERRORS]


def _fit(value: Any, kind: Any, where: str) -> list[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [FieldError(where or "body", field_of(error).reason)]
    return []
