"""What the site has beside docs/: the root's pages, the benchmarks, and references made of the code.

Run by MkDocs (mkdocs.yml). Links are written as GitHub wants them, relative to the file; those that leave docs/ are led to the page here
that shows the same file.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "readme.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.md")},
}
"""Files of the repository that are pages of the site, and their names there."""
SHOWN = ("docker", "LICENSE", "Makefile", "pyproject.toml", "constraints.txt")
"""What is shown, as text, on reference/files.md."""
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_config(config: Any) -> None:
    """Put the benchmarks into the last menu."""
    (last,) = config.nav[-1].values()
    last += sorted(page for page in PAGES.values() if page.startswith("benchmarks/"))


def on_files(files: Files, config: Any) -> Files:
    """Add what is not in docs/."""
    for source, page in PAGES.items():
        _add(files, config, page, (ROOT / source).read_text(encoding="utf-8"))
    _add(files, config, "example.md", _notebook(ROOT / "docs" / "example.ipynb"))
    _add(files, config, "reference/cli.md", "\n".join(_commands()))
    _add(files, config, "reference/spec.md", "\n".join(_spec_fields()))
    _add(files, config, "reference/specs.md", "\n".join(_shipped()))
    _add(files, config, "reference/files.md", "\n".join(_shown()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links that leave docs/ to the page of the site that shows the file."""
    here = {name: source for source, name in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if here.startswith("docs/reference/") and here != "docs/reference/api.md":
        return markdown

    def led(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = os.path.normpath(Path(here).parent / target)
        if not (ROOT / path).exists() and not path.startswith("docs/reference/"):
            raise PluginError(f"{here}: link to {target}, which is not there")
        return f"{before}{os.path.relpath(_page_of(path), Path(page.file.src_uri).parent)}{after}"

    return LINK.sub(led, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings' roles as what they name: :class:`hpscan.Store` is the code hpscan.Store."""
    return re.sub(r":(?:class|func|meth|mod|attr|data):(<code>)~?", r"\1", html)


def _page_of(path: str) -> str:
    """The page of the site that shows a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path == "docs/example.ipynb":
        return "example.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("sweeps/"):
        return "reference/specs.md"
    if path.split("/", maxsplit=1)[0] in SHOWN:
        return "reference/files.md"
    raise PluginError(f"a link to {path}, which no page shows: add it to PAGES or SHOWN in docs/hooks.py")


def _add(files: Files, config: Any, name: str, content: str) -> None:
    files.append(File.generated(config, name, content=content))


def _text(rest: str | None) -> str:
    """A docstring's roles and literals as Markdown."""
    plain = inspect.cleandoc(rest or "")
    plain = re.sub(r":(?:class|func|meth|mod):`~?(?:[\w.]*\.)?([\w]+)`", r"`\1`", plain)
    return plain.replace("``", "`")


def _cell(text: str) -> str:
    """Text in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# The command line


def _commands() -> Iterator[str]:
    from typer.main import get_command

    from hpscan.cli import app

    yield "# Command line\n\nMade from the commands themselves; `hpscan COMMAND --help` says the same.\n"
    root = get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        arguments = [parameter for parameter in command.params if not parameter.opts[0].startswith("-")]
        usage = " ".join(
            _argument(argument) if argument.required else f"[{_argument(argument)}]" for argument in arguments
        )
        yield f"## {name}\n\n```text\nhpscan {name} {usage} [OPTIONS]\n```\n\n{_text(command.help)}\n"
        yield "| | | |\n|---|---|---|"
        for parameter in command.params:
            if parameter.name == "help":
                continue
            if parameter in arguments:
                names, default = f"`{_argument(parameter)}`", ""
            else:
                names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
                names += "" if parameter.is_flag else f" `{parameter.metavar or parameter.name.upper()}`"
                default = f"`{parameter.default}`" if parameter.default and not callable(parameter.default) else ""
            more = f" (environment: `{parameter.envvar}`)" if parameter.envvar else ""
            yield f"| {names} | {_cell(parameter.help or '')}{more} | {default} |"
        example = re.sub("(hpscan .*)", r"`\1`", command.epilog or "")
        yield f"\n{example}\n"
    yield (
        "## Exit codes\n\n0 done; 1 some runs failed or are missing, a run did not come back, a file cannot be read or written, or the "
        "cluster does not answer; 2 bad input; 130 interrupted. Errors are one line on stderr."
    )


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("{}[].")
    return f"{name}…" if parameter.nargs == -1 else name


# The spec


def _spec_fields() -> Iterator[str]:
    from hpscan.spec import Spec

    schema = Spec.model_json_schema()
    parts = {"Spec": schema, **schema["$defs"]}
    places = dict(_places(schema, parts, ""))
    models = {model.__name__: model for model in _models()}
    yield (
        "# The spec\n\nEvery field of the YAML file, made from the models that validate it. Unknown keys are refused. What is chosen by "
        "a `name` may be given by the name alone: `schedule: cosine`. Complete examples: [shipped specs](specs.md).\n"
    )
    for title, place in {"Spec": "The file", **places}.items():
        part = parts[title]
        yield f"## {place} {{ #{title.lower()} }}\n\n{_text(part.get('description'))}\n"
        said = _field_docs(models[title])
        fields = {key: field for key, field in part.get("properties", {}).items() if "const" not in field}
        if fields:
            yield "| field | is | default |\n|---|---|---|"
        for key, field in fields.items():
            default = "required" if key in part.get("required", []) else _value(field.get("default"), parts)
            described = _cell(". ".join(filter(None, (_kind(field, places), _text(said.get(key))))))
            yield f"| `{key}` | {described} | {default} |"
        yield ""


def _places(part: dict[str, Any], parts: dict[str, dict[str, Any]], above: str) -> Iterator[tuple[str, str]]:
    """Each model that a spec is made of, in the order of its fields, and where in the file it stands: ``schedule: cosine``."""
    for key, field in part.get("properties", {}).items():
        for name in re.findall(r"#/\$defs/(\w+)", json.dumps({k: v for k, v in field.items() if k != "discriminator"})):
            chosen = parts[name].get("properties", {}).get("name", {}).get("const")
            yield name, f"{above}{key}: {chosen}" if chosen else f"{above}{key}"
            yield from _places(parts[name], parts, f"{key}.")


def _models() -> list[Any]:
    from hpscan._model import Model

    def below(model: Any) -> Iterator[Any]:
        for child in model.__subclasses__():
            yield child
            yield from below(child)

    return list(below(Model))


def _field_docs(model: Any) -> dict[str, str]:
    """What is written below each field in the code, inherited ones included."""
    said: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("hpscan"):
            members = _module(base.__module__)[base.__qualname__].members
            said |= {name: member.docstring.value for name, member in members.items() if member.docstring}
    return said


@cache
def _module(name: str) -> Any:
    path = ROOT / f"{name.replace('.', '/')}.py"
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    return griffe.visit(name, filepath=path, code=path.read_text(encoding="utf-8"))


def _value(value: Any, parts: dict[str, dict[str, Any]]) -> str:
    """A default as one would write it in YAML, without what is the default there, too."""
    if isinstance(value, dict):
        own = next((part["properties"] for part in parts.values() if _chosen(part) == value.get("name")), {})
        value = {
            key: inner for key, inner in value.items() if key == "name" or inner != own.get(key, {}).get("default")
        }
        value = value["name"] if set(value) == {"name"} else value if "name" in value else None
    if value in (None, "", []):
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False).replace(chr(34), '')}`"


def _chosen(part: dict[str, Any]) -> Any:
    return part.get("properties", {}).get("name", {}).get("const", "")


def _kind(field: dict[str, Any], places: dict[str, str]) -> str:
    """The type of a field for people."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{places[name].split(': ')[-1]}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in field:
            kinds = [_kind(option, places) for option in field[union] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return " or ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = field.get("type")
    if kind == "array":
        items = field.get("prefixItems", [field.get("items", {})])
        kinds = dict.fromkeys(filter(None, (_kind(item, places) for item in items)))
        return "list of " + ", ".join(re.sub(r"^(whole number|number|text)", r"\1s", found) for found in kinds)
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping of names to {_kind(inner, places)}" if isinstance(inner, dict) and inner else "mapping"
    names = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    within = [f"{sign} {field[key]:g}" for key, sign in bounds.items() if key in field and abs(field[key]) < 2**53]
    return f"{names.get(kind or '', '')} {', '.join(within)}".strip()


def _shipped() -> Iterator[str]:
    from hpscan.spec_text import shipped_specs

    yield "# Shipped specs\n\n`hpscan launch NAME` trains them; `hpscan specs` lists them with what they cost.\n"
    for name, text in shipped_specs().items():
        yield f"## {name}\n\n{' '.join(yaml.safe_load(text)['notes'].split())}\n\n```yaml\n{text.rstrip()}\n```\n"


# Files and the notebook


def _shown() -> Iterator[str]:
    yield "# Files for clusters\n\nWhat [On a cluster](../cluster.md) speaks of, from the repository.\n"
    for name in SHOWN:
        path = ROOT / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                language = {".yaml": "yaml", ".sh": "bash", ".toml": "toml"}.get(file.suffix, "text")
                yield f"## {file.relative_to(ROOT)}\n\n````{language}\n{file.read_text(encoding='utf-8').rstrip()}\n````\n"


def _notebook(path: Path) -> str:
    """A notebook as a page: its text, code, and what running it showed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(
                    f'<img alt="{_alt(source)}" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
                )
            elif "text/html" in data:
                parts.append('<div class="output">' + "".join(data["text/html"]).replace("\n", "") + "</div>")
            elif text := "".join(data.get("text/plain", output.get("text", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _alt(source: str) -> str:
    return f"What {source.splitlines()[-1]} draws".replace('"', "'")
