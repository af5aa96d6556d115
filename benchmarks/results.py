"""``RESULTS.md``: what each benchmark found, in short, from the page that its own run wrote.

python -m benchmarks.results
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
ORDER = ("throughput", "paired", "integrity", "growth", "engine", "orchestration", "adaptive", "dashboard")


def in_short(page: Path) -> str:
    """The title of a page, linked, and its paragraph that begins so."""
    title, *paragraphs = page.read_text(encoding="utf-8").strip().split("\n\n")
    told = next((text.removeprefix("In short: ") for text in paragraphs if text.startswith("In short: ")), "")
    return f"* [{title.removeprefix('# ')}]({page.name}){': ' + told if told else ''}"


def machines(page: Path) -> list[str]:
    """What a page was measured on, with the versions."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [
        line.rpartition("; `python -m ")[0] for line in lines if " cores, Python " in line and "; `python -m " in line
    ]


def main() -> None:
    pages = [HERE / f"{name}.md" for name in ORDER] + sorted(HERE.glob("*.md"))
    pages = [page for page in dict.fromkeys(pages) if page.exists() and page.name != "RESULTS.md"]
    on = dict.fromkeys(each for page in pages for each in machines(page))
    lines = [
        "# Results",
        "",
        "Written by `make bench` from the pages of the benchmarks, each of which says what it was measured on:",
        "",
    ]
    lines += [*(f"* {each}" for each in on), ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines + list(map(in_short, pages))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
