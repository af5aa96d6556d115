"""What a Markdown page holds that is not prose: its fenced blocks, and of a console what is typed and what is answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    file: str | None
    """The file that the sentence before it says it is."""
    more: bool
    """Whether it is added to that file."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The code of a page, in order; what is indented rather than fenced is text."""
    found, said = [], ""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "inline":
            said = token.content
        if token.type in {"fence", "code_block"}:
            said, before = "", said
            named = re.search(r"`([\w-]+\.(?:py|yaml))`[^`]*:$", before)
            language = token.info.strip() if token.type == "fence" else "text"
            page, line = str(path.relative_to(ROOT)), token.map[0] + 1
            found.append(Block(page, line, language, token.content, named and named[1], "too:" in before[-20:]))
    return found


def script(block: Block) -> str:
    """The shell's part of a block: of a console what stands after ``$``."""
    if block.language == "sh":
        return block.text
    lines, typed = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or typed:
            lines.append(line.removeprefix("$ "))
            typed = line.endswith("\\")
    return "\n".join(lines)


def shown(block: Block) -> list[str]:
    """What a console block shows as the answer, but for lines left out (…)."""
    if block.language != "console":
        return []
    lines, typed = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or typed:
            typed = line.endswith("\\")
        elif line.strip(" …"):
            lines.append(line)
    return lines
