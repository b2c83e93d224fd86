"""Headings, lists, glossaries and tables of a document to questions with their evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from models.text.sentences import Sentence, segment
from server.evaluation.authoring.drafts import Draft, Source, Wording
from server.evaluation.authoring.english import (
    IMPERATIVES,
    clean,
    first_clause,
    is_plain,
    is_subject,
    lower_first,
    to_asker,
)

_NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*\.?|[A-Z]\.)\s+")
_TERM = re.compile(
    r"\s*(?:\*\*|__)(?P<term>[^*_\n]{2,50}?)(?P<stop>[.:]?)(?:\*\*|__)(?P<stop2>[.:]?)\s+"
)
_RULE_ROW = re.compile(r"^[\s|:+-]+$")
_GENERIC = frozenset(
    "overview introduction contents summary background notes note example examples see also"
    " resources references links faq purpose scope goals about general other misc more details"
    " appendix index history changelog tl;dr context status steps process how why what"
    " table goal tips".split()
)
_NO_MEANING = re.compile(r"(?:see|the same|if|when|for|you|we|please|this|these)\b", re.IGNORECASE)
# Titles of columns that name nothing one would ask for, or that are no noun phrases.
_NO_COLUMN = re.compile(
    r"(?:examples?|notes?|comments?|remarks?|details|description|ask|call|contact|more|value|result)$"
    r"|.*\b(?:at|by|in|on|to|from|of|for|with)$|\w+(?:ed|ing)\b"
    r"|(?:can|may|must|should|will|is|are|does|do|has|your?|our|my|the|an?)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(r"(?:days|hours|weeks|months|minutes|pieces|copies|people)$")
_MIN_ITEMS, _MAX_ITEMS = 3, 8
_MAX_EVIDENCE_CHARS = 700


def draft_headings(source: Source, words: frozenset[str]) -> Iterator[Draft]:
    """A question for a section, which the section's first sentence answers."""
    for heading, below in pairwise(segment(source.text)):
        if heading.kind != "heading" or below.kind != "prose":
            continue
        said = _NUMBERING.sub("", clean(heading.text)).strip(" .")
        answer = clean(below.text).rstrip(".")
        if not 4 <= len(answer.split()) <= 40 or not is_plain(said) or not is_plain(answer):
            continue
        if answer.endswith(":"):
            continue
        evidence = source.text[below.start : below.end]
        if said.endswith("?"):
            yield _draft(source, Wording(to_asker(said), (answer,), "heading"), evidence)
        elif match := re.match(r"How to (?P<act>.+)$", said):
            question = f"How do I {to_asker(match['act'])}?"
            yield _draft(source, Wording(question, (answer,), "howto"), evidence)
        elif is_topic(said):
            topic = to_asker(lower_first(said, words))
            question = f"What do the documents say about {topic}?"
            yield _draft(source, Wording(question, (answer,), "heading", rank=3), evidence)


def is_topic(heading: str) -> bool:
    """Whether a heading names a thing, rather than a part of any document."""
    words = re.findall(r"[\w;']+", heading.lower())
    return 2 <= len(words) <= 6 and not set(words) & _GENERIC and is_subject(heading)


def draft_terms(source: Source) -> Iterator[Draft]:
    """`**Spate.** The state in which …` and `- **Spate**: …` as definitions."""
    sentences = segment(source.text)
    for sentence, following in zip(sentences, [*sentences[1:], None], strict=True):
        match = _TERM.match(source.text, sentence.start)
        if sentence.kind not in ("prose", "item") or match is None:
            continue
        term, end = clean(match["term"]), sentence.end
        if match.end() >= end and following is not None and following.kind == sentence.kind:
            end = following.end  # the term was a sentence of its own
        if not (match["stop"] or match["stop2"]) or not is_subject(term) or len(term.split()) > 4:
            continue
        meaning = first_clause(clean(source.text[match.end() : end]).rstrip("."), 16)
        if len(meaning.split()) < 3 or _NO_MEANING.match(meaning):
            continue
        asked = f"What does {term} mean?" if term.isupper() else f"What is meant by “{term}”?"
        wording = Wording(asked, (meaning,), "definition", term, rank=0)
        yield _draft(source, wording, source.text[sentence.start : end])


def draft_lists(source: Source, words: frozenset[str]) -> Iterator[Draft]:
    """A sentence that leads in to a list, asked for what the list holds."""
    sentences = segment(source.text)
    for index, lead in enumerate(sentences):
        if lead.kind == "item" or not lead.text.endswith(":"):
            continue
        items = _take_items(source.text, sentences, index)
        groups = tuple(_key_of(item) for item in items)
        question = _ask_list(clean(lead.text).rstrip(":").strip(), words)
        last = items[-1].end if items else lead.end
        evidence = source.text[lead.start : last]
        if not question or not _MIN_ITEMS <= len(items) <= _MAX_ITEMS or not all(groups):
            continue
        if len(evidence) > _MAX_EVIDENCE_CHARS or len(set(groups)) < len(groups):
            continue
        wording = Wording(
            question, groups, "list", all_of=tuple((group,) for group in groups), rank=0
        )
        yield _draft(source, wording, evidence)


def _take_items(text: str, sentences: Sequence[Sentence], lead: int) -> list[Sentence]:
    """The first sentence of each item that follows, up to what is no item."""
    items: list[Sentence] = []
    for sentence in sentences[lead + 1 :]:
        before = text[text.rfind("\n", 0, sentence.start) + 1 : sentence.start]
        if sentence.kind != "item":
            break
        if re.search(r"\S", before):  # behind a marker: where an item begins
            items.append(sentence)
    return items


def _key_of(item: Sentence) -> str:
    """What the item says before its first stop; "" if that is no short phrase."""
    key = first_clause(clean(item.text), 9)
    key = re.sub(r"^(?:an?|the|your|our)\s|,?\s(?:and|or)$", "", key, flags=re.IGNORECASE)
    return key.strip(" .;,")


def _ask_list(lead: str, words: frozenset[str]) -> str:
    """The question behind a lead-in, "" where none reads well."""
    match = re.match(
        r"(?:.*,\s)?[Yy]ou\s(?:will\s)?(?P<verb>need|receive|get|must|should|can|may)"
        r"(?P<rest>(?:\s.+)?)$",
        lead,
    )
    if match and is_plain(lead):
        verb, rest = match["verb"], to_asker(match["rest"])
        if verb in ("need", "receive", "get"):
            return f"What do I {verb}{rest}?" if len(rest.split()) > 1 else ""
        return f"What {verb} I{rest}?" if 1 <= len(rest.split()) <= 8 else ""
    match = re.match(
        r"(?P<subject>.+?)\s(?P<verb>includes?|covers?|contains?|consists? of|comprises?|requires?"
        r"|offers?|provides?|supports?|are)(?P<rest>(?:\sthe following.*|\sas follows)?)$",
        lead,
    )
    if match and is_subject(match["subject"]):
        subject = to_asker(lower_first(match["subject"], words))
        base, _, more = match["verb"].partition(" ")
        if base == "are":
            return f"What are {subject}?"
        is_third = base.endswith("s")
        base = (base[:-1] if is_third else base) + (f" {more}" if more else "")
        return f"What {'does' if is_third else 'do'} {subject} {base}?"
    match = re.match(
        r"There are (?:[\w-]+\s){0,2}?(?P<what>(?:kinds|types|levels|stages|steps|ways|groups"
        r"|categories|phases|roles)\b.*)$",
        lead,
    )
    if match and is_plain(match["what"]):
        return f"Which {match['what']} are there?"
    match = re.match(r"(?:The following|These)\s(?P<what>.+)$", lead)
    if match and is_plain(match["what"]) and 3 <= len(match["what"].split()) <= 10:
        return f"Which {match['what']}?"
    return ""


def draft_tables(source: Source, words: frozenset[str]) -> Iterator[Draft]:
    """Each cell beside the first column, asked for by its column and its row."""
    for header, rows in _find_tables(source.text):
        titles = [_NUMBERING.sub("", clean(cell)).rstrip("?:") for cell in _cells(header)]
        keys = Counter(_cells(text)[0] for _, text in rows if _cells(text))
        before: dict[int, tuple[str, str]] = {}
        for evidence, text in rows:
            cells = _cells(text)
            key = clean(cells[0]) if cells else ""
            if len(cells) != len(titles) or keys[cells[0]] > 1 or not _is_key(key):
                continue
            key = _name_key(titles[0], key, words)
            for column in range(1, len(cells)):
                answer = clean(cells[column])
                question = _ask_cell(titles[column], key, answer)
                if not question:
                    continue
                wording = Wording(question, _cell_answers(answer), "table", key, rank=0)
                yield _draft(source, wording, evidence)
                if column in before:
                    yield _follow_up(source, before[column], key, answer, evidence)
                before[column] = (question, answer)


def _follow_up(
    source: Source, before: tuple[str, str], key: str, answer: str, evidence: str
) -> Draft:
    asked, said = before
    wording = Wording(f"And for {key}?", _cell_answers(answer), "follow-up", key, rank=2)
    history = (
        {"role": "user", "content": asked},
        {"role": "assistant", "content": said},
    )
    return Draft(wording, source.path, evidence, history=history)


def _find_tables(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Header row, and the rows below the rule, each verbatim and as it is read."""
    lines = text.split("\n")
    for index in range(1, len(lines)):
        if not (_RULE_ROW.match(lines[index]) and "-" in lines[index] and "|" in lines[index]):
            continue
        rows = []
        for line in lines[index + 1 :]:
            if not line.strip().startswith("|"):
                break
            rows.append((line.strip(), line))
        if lines[index - 1].strip().startswith("|") and len(rows) > 1:
            yield lines[index - 1], rows


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _is_key(key: str) -> bool:
    words = key.lower().split()
    is_name = bool(words) and len(words) <= 6 and words[0] not in IMPERATIVES
    return is_name and is_plain(key) and "," not in key


def _name_key(title: str, key: str, words: frozenset[str]) -> str:
    """A bare letter or number is told with its column's title."""
    if title and (len(key) <= 3 or not any(character.isalpha() for character in key)):
        return f"{title[:1].lower()}{title[1:]} {key}"
    return lower_first(key, words)


def _ask_cell(title: str, key: str, answer: str) -> str:
    """The question for a cell, "" where the column's title makes none."""
    words = title.split()
    if not 1 <= len(words) <= 6 or not is_plain(title) or not 1 <= len(answer.split()) <= 12:
        return ""
    if not re.search(r"\w", answer) or answer.lower() in ("-", "n/a", "none", "yes", "no", "x"):
        return ""
    if "," in title or not is_plain(answer) or _NO_COLUMN.match(title):
        return ""
    first, last = words[0].lower(), words[-1].lower()
    small = title if words[0][1:2].isupper() else title[:1].lower() + title[1:]
    if title.lower() in ("what it is", "meaning", "definition", "what it means"):
        return f"What is {key}?" if len(key.split()) > 1 or key[:1].isupper() else ""
    if first in ("who", "when", "where", "how", "which", "what"):
        return f"{title} for {key}?" if len(words) > 1 else ""
    if _QUANTITY.match(first):
        return f"How many {small} for {key}?" if re.search(r"\d", answer) else ""
    is_plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    opener = "Who" if re.search(r"(?:er|or|lead|contact|person)s?$", last) else "What"
    return f"{opener} {'are' if is_plural else 'is'} the {small} for {key}?"


def _cell_answers(answer: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((answer, re.sub(r"\s*\([^)]*\)", "", answer).strip() or answer)))


def _draft(source: Source, wording: Wording, evidence: str) -> Draft:
    return Draft(wording, source.path, evidence)
