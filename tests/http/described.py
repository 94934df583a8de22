"""What `/openapi.json` says of answers, made strict enough to hold answers to it."""

from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations that are described, by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def closed(description: dict[str, Any]) -> dict[str, Any]:
    """The same, in which answers have no members but those described."""
    for operation in operations(description).values():
        for answer in operation["responses"].values():
            for content in answer.get("content", {}).values():
                if "allOf" in content["schema"]:
                    content["schema"] = _merged(content["schema"]["allOf"], description)
    for schema in description["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return description


def _merged(parts: list[dict[str, str]], description: dict[str, Any]) -> dict[str, Any]:
    schemas = [resolved(part, description) for part in parts]
    return {
        "type": "object",
        "properties": {name: one for each in schemas for name, one in each["properties"].items()},
        "required": [name for each in schemas for name in each["required"]],
        "additionalProperties": False,
    }


def resolved(value: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to, or the value itself."""
    if "$ref" not in value:
        return value
    found = description
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def check(answer: Any, schema: dict[str, Any], description: dict[str, Any]) -> None:
    """Raise ValidationError where a member is missing, wrong, or not described."""
    whole = {**schema, "components": description["components"]}
    OAS31Validator(whole, format_checker=oas31_format_checker).validate(answer)
