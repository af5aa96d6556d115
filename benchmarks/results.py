"""``RESULTS.md``: what each benchmark found, in short, from the page that its own run wrote.

python -m benchmarks.results
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.meter import header

HERE = Path(__file__).parent
ORDER = ("throughput", "paired", "integrity", "growth", "engine", "orchestration", "adaptive", "dashboard")


def in_short(page: Path) -> str:
    """The title of a page, linked, and its paragraph that begins so."""
    title, *paragraphs = page.read_text(encoding="utf-8").strip().split("\n\n")
    told = next((text.removeprefix("In short: ") for text in paragraphs if text.startswith("In short: ")), "")
    return f"* [{title.removeprefix('# ')}]({page.name}){': ' + told if told else ''}"


def main() -> None:
    pages = [HERE / f"{name}.md" for name in ORDER] + sorted(HERE.glob("*.md"))
    pages = [page for page in dict.fromkeys(pages) if page.exists() and page.name != "RESULTS.md"]
    lines = ["# Results", "", f"Written by `make bench` from the pages of the benchmarks. {header('make bench')}", ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines + list(map(in_short, pages))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
