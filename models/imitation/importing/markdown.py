"""Markdown from the HTML in which shared conversations are kept."""

from __future__ import annotations

import re
from typing import Any

# What an answer's HTML begins with; Markdown that merely holds a tag does not.
_HTML_START = re.compile(
    r"\s*<(div|p|pre|ol|ul|table|h[1-6]|blockquote|hr|strong|em|span|code)\b[^>]*>", re.IGNORECASE
)
_LANGUAGE_CLASS = re.compile(r"^(?:language|lang)-([\w+#.-]+)$")
# The button's label, pasted between the name of the language and the code.
_COPY_LABEL = re.compile(r"^[ \t]*([A-Za-z][\w+#.-]*|)[ \t]*Copy code`?[ \t]*\n?")
_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```", re.M | re.S
)


def is_html(text: str) -> bool:
    """Whether an answer is kept as HTML."""
    return _HTML_START.match(text) is not None


def to_markdown(html: str) -> str:
    """Return the Markdown of an answer's HTML: fences with their language, formulas as TeX."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    for formula in soup.select(".katex"):
        tex = formula.find("annotation")
        formula.replace_with(f"${(tex or formula).get_text().strip()}$")
    for block in soup.find_all("pre"):
        _clean_block(soup, block)
    for tag in soup.find_all(["button", "svg", "script", "style"]):
        tag.decompose()
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        newline_style="BACKSLASH",
        code_language_callback=lambda block: block.get("data-language", ""),
    )
    text = converter.convert_soup(soup).replace("\xa0", " ").replace("\\\n", "\n")
    return _squeeze(repair_fences(text)).strip()


def repair_fences(text: str) -> str:
    """Return Markdown whose fences hold code only, their language behind the opening mark.

    A copy of the page leaves "pythonCopy code`...`" as the first line of a block.
    """

    def repair(match: re.Match[str]) -> str:
        code = match["code"]
        label = _COPY_LABEL.match(code)
        if label is None:
            return match.group()
        info = match["info"].strip() or label[1]
        code = code[label.end() :]
        if code.rstrip().endswith("`") and "Copy code`" in label.group():
            code = code.rstrip()[:-1] + "\n"
        return f"{match['indent']}```{info}\n{code}{match['indent']}```"

    return _FENCE.sub(repair, text)


def _clean_block(soup: Any, block: Any) -> None:
    """Leave nothing in a code block but its text, its language as an attribute."""
    code = block.find("code")
    text = (code or block).get_text()
    language = ""
    if code is not None:
        names = [_LANGUAGE_CLASS.match(name) for name in code.get("class") or ()]
        language = next((name[1] for name in names if name), "")
        head = block.get_text().partition("Copy code")
        if not language and head[1] and re.fullmatch(r"\s*[\w+#.-]+\s*", head[0]):
            language = head[0].strip()
    new = soup.new_tag("pre")
    new["data-language"] = language
    new.string = text
    block.replace_with(new)


def _squeeze(text: str) -> str:
    """Return `text` with at most one blank line in a row outside of fences."""
    lines: list[str] = []
    in_fence = False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            in_fence = not in_fence
        if in_fence:
            lines.append(line)
        elif line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines)
