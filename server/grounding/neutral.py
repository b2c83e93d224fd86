"""Text of documents and models without anything live: links, images, HTML, forged citation marks.

What comes out is Markdown in which no renderer finds a link, an image or a tag, also when pieces
made one by one are put together. Inline code stays as it is; a stray backtick is replaced, and a
run of tildes shortened, so that code of one piece cannot begin in another.
"""

from __future__ import annotations

import re

from server.grounding.marks import MARK

# On one line and in one table cell: a renderer ends both before it looks for code. A backslash
# takes a backtick's meaning away.
_CODE = re.compile(r"(?<![`\\])(`+)(?!`)([^\n\r|]+?)(?<!`)\1(?!`)")
_LABEL = r"((?:[^\[\]]|\[[^\[\]]*\])*)"
_TARGET = r"\(\s*(?:<([^<>]*)>|([^\s()]*(?:\([^()]*\)[^\s()]*)*))(?:\s+[\"'(][^)]*)?\s*\)"
_IMAGE = re.compile(rf"!\[{_LABEL}\](?:{_TARGET}|\[[^\[\]]*\])")
_LINK = re.compile(rf"\[{_LABEL}\]{_TARGET}")
_REFERENCE = re.compile(rf"\[{_LABEL}\]\[[^\[\]]*\]")
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*|[^\s<>@]+@[^\s<>@]+)>")
_TAG_NAMES = (
    "a|abbr|address|applet|area|article|aside|audio|b|base|bdi|bdo|blink|blockquote|body|br|button|"
    "canvas|caption|center|cite|code|col|colgroup|data|dd|del|details|dfn|dialog|dir|div|dl|dt|em|"
    "embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|header|hr|html|i|"
    "iframe|img|image|input|ins|kbd|label|legend|li|link|main|map|mark|marquee|math|menu|meta|meter|"
    "nav|noscript|object|ol|optgroup|option|output|p|param|picture|pre|progress|q|s|samp|script|"
    "section|select|slot|small|source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|"
    "template|textarea|tfoot|th|thead|time|title|tr|track|u|ul|var|video|wbr|xml|xmp"
)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?=[\s/>])(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_URL = re.compile(r"\\*(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>`\"”|]+", re.IGNORECASE)
_URL_TAIL = re.compile(r"[.,;:!?'\"*_~)\]]\Z")
_SAFE_TARGET = re.compile(r"(?:https?://|mailto:)[^\s`<>]+\Z", re.IGNORECASE)
# Formulas of spreadsheets that open or fetch something as soon as a reader pastes the answer into
# one; OWASP, "CSV Injection". Their addresses may be put together from other cells.
_FORMULA = re.compile(
    r"=\s*(?P<name>HYPERLINK|IMAGE|WEBSERVICE|RTD|DDE|CALL|REGISTER(?:\.ID)?|"
    r"IMPORT(?:DATA|FEED|HTML|RANGE|XML))\s*"
    r"\((?P<inner>(?:[^()\"\n]|\"[^\"\n]*\"|\([^()\n]*\))*)\)"
    r"|=\s*[\w.+-]+\|'[^'\n]*'!\$?\w+",
    re.IGNORECASE,
)
_FORMULA_TEXT = re.compile(r"\"([^\"\n]*)\"\s*\Z")
_OPENING = re.compile(r"<(?=[A-Za-z/!?])")
# Three open a block of code, or end one that is open.
_TILDES = re.compile(r"~{3,}")
# What must not meet where two pieces do: the end of the one, the beginning of the other.
_SEAMS = {"]": "([:", "!": "[", "<": "", "`": "`", "\\": "`"}


def neutralise(text: str) -> str:
    """`text` with links and images as plain words, addresses as code, and tags taken out.

    Of a spreadsheet's formula that opens or fetches something its label is left.
    Citation marks of a document become `(3)`: only this server writes `[3]`.
    """
    joined, position = "", 0
    for match in _CODE.finditer(text):
        plain = _neutralise_plain(text[position : match.start()])
        joined = join_pieces(join_pieces(joined, plain), match.group())
        position = match.end()
    return join_pieces(joined, _neutralise_plain(text[position:]))


def join_pieces(before: str, piece: str) -> str:
    """`before + piece`, with a space between where their ends would make something live."""
    return before + find_seam(before[-1:], piece) + piece


def find_seam(last: str, piece: str) -> str:
    """What must stand between a text that ends with the character `last` and `piece`."""
    first = piece[:1]
    if not last or not first:
        return ""
    if last == "<":
        return " " if first.isalpha() or first in "/!?" else ""
    return " " if first in _SEAMS.get(last, "") else ""


def _neutralise_plain(text: str) -> str:
    """As `neutralise`, for text without inline code."""
    text = text.replace("`", "'")
    text = _COMMENT.sub("", text)
    text = _TAG.sub(_read_tag, text)
    text = _FORMULA.sub(_read_formula, text)
    # Links may hold images: what is innermost goes first.
    for _ in range(3):
        text = _IMAGE.sub(lambda match: match[1], text)
    text = _LINK.sub(_read_link, text)
    text = _REFERENCE.sub(_read_reference, text)
    text = MARK.sub(_round_mark, text)
    text = _AUTOLINK.sub(lambda match: match[1], text)
    text = _URL.sub(_code_url, text)
    # Whatever is left of a construct that none of the patterns knew.
    text = re.sub(r"\](?=[(\[:])", "] ", text)
    text = re.sub(r"!(?=\[)", "! ", text)
    # Last: what was taken out may have stood between them.
    return _TILDES.sub("~~", _OPENING.sub("< ", text))


def _read_tag(match: re.Match[str]) -> str:
    """The words of an image's `alt`; nothing of any other tag."""
    tag = match.group()
    if not re.match(r"<im(?:g|age)\b", tag, re.IGNORECASE):
        return " " if re.match(r"</?(?:br|p|div|li|td|th|tr|h[1-6])\b", tag, re.IGNORECASE) else ""
    alt = _ALT.search(tag)
    return next((group for group in alt.groups() if group), "") if alt else ""


def _read_link(match: re.Match[str]) -> str:
    """The label, and where the target is an address that says more, that too."""
    label, target = match[1], match[2] or match[3] or ""
    if not _SAFE_TARGET.match(target) or target in label:
        return label
    # Only an address that is written out is made code below.
    return f"{label} ({target})" if label.strip() else target


def _read_formula(match: re.Match[str]) -> str:
    """The label of a link; nothing of what is fetched or run."""
    if (match["name"] or "").upper() != "HYPERLINK" or "," not in match["inner"]:
        return ""
    label = _FORMULA_TEXT.search(match["inner"])
    return label[1] if label else ""


def _read_reference(match: re.Match[str]) -> str:
    whole = match.group()
    return whole if MARK.fullmatch(whole[: whole.index("][") + 1]) else match[1]


def _round_mark(match: re.Match[str]) -> str:
    inner = match.group().strip()[1:-1].strip()
    lead = match.group()[: len(match.group()) - len(match.group().lstrip())]
    return f"{lead}({inner})"


def _code_url(match: re.Match[str]) -> str:
    url = kept = match.group().lstrip("\\")
    while _URL_TAIL.search(kept):
        # A bracket that the address itself opened belongs to it.
        if kept[-1] == ")" and kept.count("(") >= kept.count(")"):
            break
        kept = kept[:-1]
    return f"`{kept}`{url[len(kept) :]}" if kept else url


def clean_fence(line: str) -> str:
    """A code fence with the name of a language behind it and nothing else."""
    return re.sub(r"^(\s*(?:`{3,}|~{3,}))[ \t]*([\w+#.-]*)[^\r\n]*", r"\1\2", line)
