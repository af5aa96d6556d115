"""What the shell completes: names that are cheap to find out."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import typer

__all__ = ["specs", "sweeps", "variants"]


def sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    """Sweeps of the store that was given; none of an object store, which would have to be asked."""
    store = str(ctx.params.get("store") or "")
    found = [] if not store or "://" in store else [path.parent.name for path in Path(store).glob("*/spec.yaml")]
    return sorted(name for name in found if name.startswith(incomplete))


def specs(incomplete: str) -> list[str]:
    """The shipped specs; YAML files and folders where the word is a path so far."""
    shipped = [
        Path(entry.name).stem for entry in resources.files("hpscan.sweeps").iterdir() if entry.name.endswith(".yaml")
    ]
    folder = incomplete.rpartition("/")[0]
    here = Path(folder or ("/" if incomplete.startswith("/") else "."))
    paths = [
        f"{path}/" if path.is_dir() else str(path)
        for path in here.glob("[!.]*")
        if path.is_dir() or path.suffix in {".yaml", ".yml"}
    ]
    return [name for name in (*sorted(shipped), *sorted(paths)) if name.startswith(incomplete)]


def variants(incomplete: str) -> list[str]:
    """Optimizers with a decay convention; of ``NAME=VARIANT`` the second half."""
    from hpscan.variants import VARIANTS

    given, equals, begun = incomplete.rpartition("=")
    return [given + equals + name for name in sorted(VARIANTS) if name.startswith(begun)]
