"""The API's reference as a page: made of its OpenAPI document, with no script and nothing to load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

__all__ = ["reference_page"]

_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #16191d; --quiet: #5b6470; --line: #d5dae1;
  --get: #0b6b43; --post: #2455c3; }
@media (prefers-color-scheme: dark) { :root { --ground: #111418; --card: #1a1f25; --ink: #e8ebef; --quiet: #9aa4b1;
  --line: #343c46; --get: #6fd6a5; --post: #8fb1ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; margin: 2rem 0 .75rem; }
p { margin: .25rem 0 .75rem; } .quiet { color: var(--quiet); }
a { color: var(--post); }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: .5rem 0; }
summary { padding: .7rem 1rem; cursor: pointer; display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; }
summary:focus-visible, a:focus-visible { outline: 3px solid var(--post); outline-offset: 2px; border-radius: 8px; }
.method { font-weight: 700; font-size: .8rem; min-width: 2.75rem; } .get { color: var(--get); } .post { color: var(--post); }
code, pre { font: .875rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 8px; padding: .75rem; overflow-x: auto; }
.inside { padding: 0 1rem 1rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-top: 1px solid var(--line); }
h3 { font-size: .9rem; margin: 1rem 0 .35rem; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p>{{ about }}</p>
<p class="quiet">As a document for programs: <a href="{{ base }}/openapi.json">{{ base }}/openapi.json</a></p>
{% for tag, operations in groups.items() %}
<h2>{{ tag }}</h2>
{% for each in operations %}
<details id="{{ each.id }}">
<summary><span class="method {{ each.method }}">{{ each.method|upper }}</span> <code>{{ base }}{{ each.path }}</code>
<span class="quiet">{{ each.summary }}</span></summary>
<div class="inside">
{% if each.about %}<p>{{ each.about }}</p>{% endif %}
{% if each.parameters %}
<h3>Parameters</h3>
<div class="scroll"><table><tr><th>name</th><th>in</th><th>what</th><th></th></tr>
{% for one in each.parameters %}
<tr><td><code>{{ one.name }}</code></td><td>{{ one.place }}</td><td><code>{{ one.type }}</code></td><td>{{ one.about }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% if each.body %}<h3>Body, JSON</h3><pre tabindex="0">{{ each.body }}</pre>{% endif %}
<h3>Answers</h3>
<div class="scroll"><table>
{% for one in each.answers %}
<tr><td><code>{{ one.status }}</code></td><td>{{ one.about }}</td><td><code>{{ one.types }}</code></td></tr>
{% endfor %}
</table></div>
<h3>Example</h3>
<pre tabindex="0">{{ each.example }}</pre>
</div>
</details>
{% endfor %}
{% endfor %}
</main>
</body>
</html>
""")


def reference_page(document: Mapping[str, Any], base: str) -> str:
    """The page of an OpenAPI document whose paths are below ``base``."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            (tag, *_) = operation.get("tags", ["others"])
            groups.setdefault(tag, []).append(_operation(document, base, path, method, operation))
    about = document["info"]["description"]
    return _PAGE.render(title=document["info"]["title"], about=about, base=base, groups=groups)


def _operation(
    document: Mapping[str, Any], base: str, path: str, method: str, operation: Mapping[str, Any]
) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    fields = _resolved(document, body).get("properties", {}) if body else {}
    shown = {name: f"{_type(document, schema)}: {schema.get('description', '')}" for name, schema in fields.items()}
    sent = """ -X POST --json '{"text": "…"}'""" if shown else " -X POST" if method == "post" else ""
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation.get("summary", ""),
        "about": operation.get("description", ""),
        "parameters": [
            {"name": one["name"], "place": one["in"], "type": _type(document, one["schema"]), "about": _told(one)}
            for one in operation.get("parameters", [])
        ],
        "body": json.dumps(shown, indent=2, ensure_ascii=False) if shown else "",
        "answers": [
            {"status": status, "about": one["description"], "types": ", ".join(one.get("content", {}))}
            for status, one in sorted(operation["responses"].items())
        ],
        "example": f'curl -H "Authorization: Bearer $HPSCAN_TOKEN"{sent} http://127.0.0.1:8050{base}{path}',
    }


def _told(parameter: Mapping[str, Any]) -> str:
    default = parameter["schema"].get("default")
    told = str(parameter.get("description", ""))
    return told if default is None else f"{told} {default} by default.".strip()


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolved(document, schema)
    if "enum" in schema:
        values = list(map(str, schema["enum"]))
        return " | ".join(values if len(values) <= 12 else [*values[:12], "…"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_type(document, each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"{_type(document, schema['items'])}, repeatable"
    return str(schema.get("type", "any"))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found
