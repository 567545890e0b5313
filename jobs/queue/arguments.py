"""The arguments of a call: whether the function takes them, and whether they are JSON."""

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.queue.job import JSON


def positional(signature: inspect.Signature) -> range:
    """How many arguments, all of them positional, the function surely takes."""
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty for parameter in parameters):
        return range(0)
    positional = [
        parameter for parameter in parameters if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return range(sum(parameter.default is parameter.empty for parameter in positional), len(positional) + 1)


def is_plain(value: Any) -> bool:
    """Whether the value is surely JSON: found out in a tenth of the time that `check_json` takes."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    return (kind is str and value.isascii()) or (kind is int and value.bit_length() < 64) or kind is bool or value is None


def not_json(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Exception]]:
    """The arguments that are not JSON, each with the reason."""
    for name, value in arguments.items():
        try:
            check_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            yield name, error


def check_json(value: Any) -> None:
    """Raises TypeError, ValueError or RecursionError for what is not JSON."""
    text = JSON.encode(value)
    text.encode()  # refuses lone surrogates
    if "{" in text:
        _check_keys(value)


def _check_keys(value: Any) -> None:
    """The encoder takes keys that are numbers, or None, and they would arrive as text."""
    if isinstance(value, dict):
        for key, held in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object must be text")
            _check_keys(held)
    elif isinstance(value, list | tuple):
        for held in value:
            _check_keys(held)


def plain(default: Any) -> Any:
    """A parameter's default as another program knows it; None for one that is not JSON."""
    try:
        return json.loads(JSON.encode(default))
    except (TypeError, ValueError, RecursionError):
        return None
