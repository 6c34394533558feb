"""The OpenAPI document: as the code makes it, and valid."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dpsr.page import openapi
from dpsr.page.server.handlers import Handlers

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "page_openapi.json"
DOCUMENT = openapi.document()

# The parts of the OpenAPI 3.1 schema (spec.openapis.org/oas/3.1/schema) that the document uses.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"pattern": r"^3\.1\.\d+$"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {
                "^/": {
                    "additionalProperties": False,
                    "patternProperties": {"^(get|put|post|delete)$": {"$ref": "#/$defs/operation"}},
                }
            },
        },
        "components": {
            "additionalProperties": False,
            "properties": {
                "schemas": {
                    "additionalProperties": False,
                    "patternProperties": {
                        "^[a-zA-Z0-9._-]+$": {"$ref": "https://json-schema.org/draft/2020-12/schema"}
                    },
                },
                "securitySchemes": {"type": "object"},
            },
        },
        "security": {"type": "array"},
    },
    "$defs": {
        "content": {
            "type": "object",
            "additionalProperties": {"additionalProperties": False, "properties": {"schema": {"type": "object"}}},
        },
        "operation": {
            "type": "object",
            "required": ["operationId", "responses"],
            "additionalProperties": False,
            "properties": {
                "operationId": {"type": "string"},
                "summary": {"type": "string"},
                "parameters": {
                    "type": "array",
                    "items": {
                        "required": ["name", "in", "schema"],
                        "properties": {"in": {"enum": ["query", "header", "path"]}},
                        "if": {"properties": {"in": {"const": "path"}}},
                        "then": {"properties": {"required": {"const": True}}, "required": ["required"]},
                    },
                },
                "requestBody": {"required": ["content"], "properties": {"content": {"$ref": "#/$defs/content"}}},
                "responses": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": False,
                    "patternProperties": {
                        "^[1-5](\\d\\d|XX)$": {
                            "required": ["description"],
                            "properties": {"content": {"$ref": "#/$defs/content"}},
                        }
                    },
                },
            },
        },
    },
}


def test_the_file_is_what_the_code_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == openapi.text_of_document(), (
        "write it again: python -m dpsr.page.openapi docs/page_openapi.json"
    )


def test_it_is_valid() -> None:
    jsonschema.validate(DOCUMENT, SCHEMA, cls=jsonschema.Draft202012Validator)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_check_sees_a_document_that_is_not() -> None:
    operation = {"operationId": "x", "responses": {"9": {"description": "no"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**DOCUMENT, "paths": {"/x": {"get": operation}}}, SCHEMA)


def test_every_reference_leads_somewhere() -> None:
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', openapi.text_of_document()))
    assert references <= DOCUMENT["components"]["schemas"].keys()
    assert {"SearchRequest", "SearchAnswer", "Column", "Judgement"} <= references


def test_operations_and_handlers_are_the_same() -> None:
    handlers = {name for name, each in inspect.getmembers(Handlers, inspect.iscoroutinefunction) if name[0] != "_"}
    names = [operation.name for operation in openapi.OPERATIONS]
    assert handlers == set(names)
    assert len(names) == len(handlers)
    assert len({(each.method, each.path) for each in openapi.OPERATIONS}) == len(names)


def test_variables_of_paths_are_parameters() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            given = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
            assert given == openapi.variables(path)
