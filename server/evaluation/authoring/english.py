"""English for drafted questions: what a phrase may be, and how a statement is turned round.

The rules know English alone; documents in other languages give few drafts or none.
"""

from __future__ import annotations

import re

_LINK = re.compile(r"!?\[([^\]\[]*)\](?:\([^)\s]*\)|\[[^\]]*\])?")
_MARKS = re.compile(r"\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`|\\(?=\W)")
_STRANGE = re.compile(r"[<>|{}=#~^\\\[\]/]|https?:|www\.|&\w+;|[“\"”]")
# Words that point at something outside the question.
_POINTING = frozenset(
    "this that these those it its itself they them their theirs he him his she her hers such same"
    " above below following previous former latter here there also too however instead then"
    " otherwise another other others both either neither so therefore thus hence".split()
)
_NOT_A_SUBJECT = frozenset(
    "if when while after before once as because since although though unless until in on at for"
    " from to by with without under over and but or not no nothing nobody there here what which who"
    " how why where please note see some most many few several one you i we let do does make sure"
    " only even just please always never usually often sometimes first second third finally next"
    " example examples tip warning important think depending given more less having".split()
)
_VERBS_INSIDE = frozenset(
    "is are was were be been being has have had do does did can could will would shall should may"
    " might must that which who whom whose where when what how why if because and or but".split()
)
_PERSONS = {
    "are you": "am I",
    "were you": "was I",
    "you are": "I am",
    "you were": "I was",
    "you're": "I am",
    "you've": "I have",
    "you'll": "I will",
    "yourself": "myself",
    "yours": "mine",
    "your": "my",
    "you": "I",
}
_PERSON = re.compile(r"\b(?:" + "|".join(_PERSONS) + r")\b", re.IGNORECASE)
# `you` as an object: behind a preposition, or with no verb of its own behind it.
_OBJECT = re.compile(
    r"\b(?:(?<=to )|(?<=for )|(?<=with )|(?<=by )|(?<=from )|(?<=about ))you\b"
    r"|\byou(?=$|[,.;:)]|\s(?:by|in|for|to|with|at|on|from|about|and|or|as|directly|when|if|before"
    r"|after|the|a|an|your|any)\b)",
    re.IGNORECASE,
)
_DETERMINERS = frozenset("the a an all each every your our any new".split())
# What an instruction begins with.
IMPERATIVES = frozenset(
    "tell call change begin start ask contact report send use write give inform notify speak talk"
    " go open close check"
    " make fill leave stop keep put take add create run read follow submit email raise post move"
    " remove set turn press book bring hand return let ensure click see reach file log move visit"
    " complete sign enter choose pick wear wash telephone phone do don't pass"
    " wait look try drop hold".split()
)
MAX_SUBJECT_WORDS = 8
# Where the first clause ends: `a day in which` goes on.
_STOP = re.compile(r"\s*(?:[;:(—–]|,\s|\.\s|\s-\s|,?\s(?<!in\s)(?:which|because|unless|but)\s)")


def clean(text: str) -> str:
    """The text as it is read: Markdown's marks and links taken off, white space squeezed."""
    plain = _LINK.sub(r"\1", text)
    plain = _MARKS.sub("", plain.replace("’", "'"))
    return " ".join(plain.split())


def lower_first(phrase: str, corpus_words: frozenset[str]) -> str:
    """The phrase as it stands inside a sentence.

    A first word keeps its capital if it is a name: no document writes it small.
    """
    first, _, rest = phrase.partition(" ")
    bare = re.sub(r"\W+$", "", first)
    is_common = bare.lower() in _DETERMINERS or bare.lower() in corpus_words
    if first[:1].isupper() and bare[1:] == bare[1:].lower() and is_common:
        first = first[:1].lower() + first[1:]
    return f"{first} {rest}" if rest else first


def to_asker(phrase: str) -> str:
    """The phrase as the one who asks says it: `your badge` is `my badge`."""
    return _PERSON.sub(lambda m: _PERSONS[m.group().lower()], _OBJECT.sub("me", phrase))


def is_subject(phrase: str) -> bool:
    """Whether a phrase can be what a question is about: a noun phrase, by its words' looks."""
    words = re.findall(r"[\w'-]+", phrase.lower())
    if not words or len(words) > MAX_SUBJECT_WORDS or re.search(r"[,;:()]", phrase):
        return False
    if words[0] in _NOT_A_SUBJECT or words[-1] in _NOT_A_SUBJECT or words[0].endswith("ly"):
        return False
    return not any(w in _VERBS_INSIDE or w in _POINTING for w in words) and is_plain(phrase)


def is_plain(phrase: str) -> bool:
    """Whether it is free of markup, addresses and marks that open without closing."""
    return (
        not _STRANGE.search(phrase)
        and phrase.count("(") == phrase.count(")")
        and any(character.isalpha() for character in phrase)
    )


def stands_alone(question: str) -> bool:
    """Whether a question points at nothing that its reader cannot see."""
    words = re.findall(r"[\w'-]+", question.lower())
    return 4 <= len(words) <= 24 and not any(word in _POINTING for word in words)


def first_clause(text: str, max_words: int) -> str:
    """The beginning up to the first stop inside, "" if that is too long."""
    found = _STOP.split(text)[0]
    found = found.strip(" .,;:")
    return found if 0 < len(found.split()) <= max_words and is_plain(found) else ""


def third_person(base: str) -> str:
    """`takes` of `take`."""
    if base == "have":
        return "has"
    if re.search(r"(?:s|sh|ch|x|o)$", base):
        return f"{base}es"
    return f"{base[:-1]}ies" if re.search(r"[^aeiou]y$", base) else f"{base}s"
