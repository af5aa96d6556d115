"""Commands as they are written: what a shell would start, and whether it has the options."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path


def check_command(words: list[str]) -> None:
    """A command of Ray's or hpscan's that its command line does not know fails."""
    if words[0] == "ray":
        from ray.scripts.scripts import cli as command
    else:
        from typer.main import get_command

        from hpscan.cli import app

        command = get_command(app)
    known: set[str] = set()
    rest = words[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{words[0]} has no command {rest[0]!r}: {shlex.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    known |= {"--help"}
    for word in rest:
        if word == "--":
            break
        if word.startswith("-"):
            assert word.split("=")[0] in known, f"no option {word!r}: {shlex.join(words)}"


def typed(text: str, folder: Path, programs: Iterable[str]) -> list[list[str]]:
    """The commands of a script, as a shell would start them: each of ``programs`` only notes its words. Another one fails."""
    noted = folder / "noted"
    noted.unlink(missing_ok=True)
    functions = "".join(f'{name}() {{ note {name} "$@"; }}\n' for name in programs)
    note = 'note() { printf "%s\\0" "$#" "$@" >> "$NOTED"; }\n'
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -eu\nPATH=\n{note}{functions}{text}\nwait\n"], cwd=folder, capture_output=True, text=True,
        env={"NOTED": str(noted), "HOME": str(folder)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    words = noted.read_bytes().decode().split("\0") if noted.exists() else []
    found, at = [], 0
    while at < len(words) - 1:
        count = int(words[at])
        found.append(words[at + 1 : at + 1 + count])
        at += 1 + count
    return found
