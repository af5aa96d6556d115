"""What a spec is refused for: an error of pydantic's as one line that names the field, what is wrong and the value."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

from pydantic import ValidationError

from hpscan.schedules import Schedule
from hpscan.stopping import Stop
from hpscan.workloads import Workload
from hpscan.workloads.architectures import Architecture

__all__ = ["refusal"]

_TAGS = frozenset(
    value
    for union in (Schedule, Workload, Architecture, Stop)
    for choice in get_args(get_args(union)[0])
    for value in get_args(choice.model_fields["name"].annotation)
)
"""Names of the choices of a union, which pydantic puts into the path of a field."""
_SHAPES = {
    "tuple_type": "a list",
    "dict_type": "a mapping of fields",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a name, or a mapping with one",
    "string_pattern_mismatch": "module:function, of a file in this folder, as in my_model:make",
}
"""What our users call what pydantic misses, by the types of its errors; the one pattern is that of a user's function."""


def refusal(error: ValidationError) -> str:
    """The first problem of a validation error, as ``field``: what is wrong; got value."""
    problems = error.errors(include_url=False)
    first = problems[0]
    path = [str(part) for part in first["loc"]]
    # a field may have the name of the choice it belongs to: factory.factory
    field = ".".join(part for before, part in pairwise(["", *path]) if part not in _TAGS or part == before)
    message, told = first["msg"].removeprefix("Value error, "), [first["loc"]]
    if first["type"] == "union_tag_invalid":
        expected = first["ctx"]["expected_tags"].replace("'", "")
        message = f"name must be one of {expected}; got {first['ctx']['tag']!r}"
    elif first["type"] == "union_tag_not_found":
        message = f"must have a `name`; got {first['input']!r}"
    elif first["type"] == "missing":
        told = [problem["loc"] for problem in problems if problem["type"] == "missing"]
        told = [loc for loc in told if loc[:-1] == first["loc"][:-1]]  # of one mapping or list
        if isinstance(first["loc"][-1], int):
            length = len(first["input"]) + len(told)
            field, message = field.rpartition(".")[0], f"must be a list of {length}; got {first['input']!r}"
        else:
            others = "".join(f", and `{loc[-1]}`" for loc in told[1:])
            message = f"missing; a spec must give it{others}"
    elif first["type"] == "too_long":
        message = f"must be a list of {first['ctx']['max_length']}; got {first['input']!r}"
    elif first["type"] in _SHAPES:
        message = f"must be {_SHAPES[first['type']]}; got {first['input']!r}"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:].replace(' should ', ' must ')}; got {first['input']!r}"
    rest = len(problems) - len(told)
    more = f" (and {rest} more)" if rest else ""
    return f"`{field}`: {message}{more}" if field else f"{message}{more}"
