"""Where a sentence ends within a run of prose, decided with what has come of the text so far."""

from __future__ import annotations

import re
from collections.abc import Iterator

MARK = r"\[\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\]"
# A stop, closing marks behind it, and footnote or citation marks that belong to it. Full-width
# stops need no white space behind them. It begins with all the stops there are, because a set of
# characters is searched for much faster than alternatives.
_CLOSED = rf"[\"'”’»)\]*_`]*(?:[ \t]*{MARK})*(?=\s|<|\Z)"
_STOP = re.compile(
    rf"[.!?…؟।॥۔。！？｡](?:(?:(?<=[.!?…])[.!?…]*|(?<=\S[؟।॥۔])[؟।॥۔]*){_CLOSED}"
    rf"|(?<=[。！？｡])[。！？｡]*[」』”’）)\"]*(?:[ \t]*{MARK})*)"
)
_MARKED_END = re.compile(rf"(?:{_STOP.pattern})|(?:{MARK})(?:[ \t]*{MARK})*(?=\s|\Z)")
_PARTIAL_MARK = re.compile(r"[ \t]*\[[\d\s,–-]*\Z")
_NEXT = re.compile(r"(?:\s+|(?=<))[\"'“‘«„¿¡(\[*_`]*([^\s\"'“‘«„¿¡(\[*_`])")
_NEXT_WORD = re.compile(r"\w[\w'’-]*")
_TOKEN = re.compile(r"(?<![\w.])[\w.&]+\Z")
_STEP = re.compile(r"(?:^|:\s)[\s*_(]*\d+\Z")
# "4 m." is a length and no initial.
_UNIT = re.compile(r"\d\s?[a-zA-Zµ]\Z")
_GOES_ON_AFTER_QUOTE = ("と", "って", "という")

# A stop never ends a sentence behind these.
_TITLES = frozenset(
    "mr mrs ms mx dr prof messrs mme mlle rev hon capt lt sgt col gen e.g i.e eg ie viz cf vs ca "
    "approx z.b d.h bzw vgl resp incl excl".split()
)
# These are abbreviations before a number and words of their own, or the end, before anything else.
_BEFORE_NUMBERS = frozenset(
    "no nos nr p pp vol fig figs eq sec ch art para par tel ext app ed max min op cap reg str "
    "abs ziff pos rn ver v rel".split()
)
# These may end a sentence; they do where a word follows that seldom continues one.
_MAY_END = frozenset(
    "inc ltd co corp llc plc bros jr sr st ave blvd rd dept est al etc usw a.m p.m u.s u.k e.u u.n "
    "u.s.a d.c ph.d m.d b.a m.a b.sc m.sc jan feb mar apr jun jul aug sep sept oct nov dec mon tue "
    "tues wed thu thur thurs fri sat sun hrs mt ft lb lbs oz yr yrs mo wk misc".split()
)
_STARTERS = frozenset(
    "the this that these those it its he she we you they i a an in on at by for from to if when "
    "where while after before as all any each every no not please our your their his her my there "
    "here what who why how but and or so however then only both some most many such once until "
    "because although since see use ask do does did is are was were can may must should will "
    "der die das ein eine es er sie wir ich im am bei für wenn nach le la les un une il elle nous "
    "vous el los las una en".split()
)
_MONTHS = frozenset(
    "januar jänner februar märz april mai juni juli august september oktober november dezember "
    "jahrhundert quartal januari februari maart juin juillet".split()
)
_PAIRS = {"(": ")", "[": "]", "“": "”", "«": "»", "（": "）", "「": "」", "『": "』", "„": "“”"}
_GROUPED = re.compile(r"`+|[()\[\]“”«»（）「」『』„\"]")
# A bracket, quotation or code span that is not closed within so many characters is taken for a
# stray mark, so that one of them cannot hold back the rest of a stream.
_REACH = 200


def find_ends(
    text: str, begin: int, end: int, *, is_open: bool, at_marks: bool = False
) -> Iterator[int]:
    """Offsets at which sentences of the prose `text[begin:end]` end, in order.

    The last sentence has no stop of its own: where it ends `end` is not given. With `is_open` more
    text may come behind `end`, and only ends that stand whatever it is are given. `at_marks` lets a
    citation mark end a sentence that has no stop, as drafts of models have it.
    """
    pattern = _MARKED_END if at_marks else _STOP
    position = begin
    while match := pattern.search(text, position, end):
        verdict = _decide(text, match, begin, end, is_open)
        if verdict is None:
            return
        position = match.end()
        if verdict:
            if text[position:end].strip():
                yield position
            begin = position


def _decide(text: str, match: re.Match[str], begin: int, end: int, is_open: bool) -> bool | None:
    """Whether a sentence ends behind the match; None while that hangs on text to come."""
    after = match.end()
    if is_open and (after == end or _PARTIAL_MARK.match(text, after, end)):
        return None
    if (
        after < end
        and text[match.start()] not in "。！？｡"
        and not (text[after].isspace() or text[after] == "<")
    ):
        return False
    grouped = _is_grouped(text, begin, after, end, is_open)
    if grouped is not False:
        return None if grouped is None else False
    if text[match.start()] in "。！？｡":
        return _ends_with_wide_stop(text[after - 1], text[after:end], is_open)
    following = _NEXT.match(text, after, end)
    if following is None:
        # Nothing but white space and opening marks is left.
        return None if is_open else not text[after:end].strip()
    first = following[1]
    if first == "<":
        # A tag or a mark of a chat template may begin.
        behind = text[following.start(1) + 1 : min(following.start(1) + 2, end)]
        is_attached = text[after] == "<"
        if not behind and is_open:
            return None
        if is_attached or behind in ("|", "/"):
            return behind in ("|", "/") or behind.isalpha()
    if first.islower():
        return False
    if match.group()[0] == "[":
        return True
    if match.group()[0] != "." or match.group().startswith(".."):
        return text[match.start() - 1 : match.start()] not in ("[", "(")
    word = _NEXT_WORD.match(text, following.start(1), end)
    if word is not None and word.end() == end and is_open:
        word = None
    return _ends_with_full_stop(text[begin : match.start()], first, word, is_open)


def _ends_with_wide_stop(last: str, rest: str, is_open: bool) -> bool | None:
    """Whether a full-width stop ends a sentence: not where "he said" follows a quotation."""
    if last not in "」』":
        return True
    if len(rest) < 3 and is_open:
        return None
    return not rest.startswith(_GOES_ON_AFTER_QUOTE)


def _ends_with_full_stop(
    sentence: str, first: str, word: re.Match[str] | None, is_open: bool
) -> bool | None:
    """Whether the stop behind `sentence` ends it; `first` and `word` are what comes next."""
    found = _TOKEN.search(sentence, max(0, len(sentence) - 40))
    token = found.group().lower().lstrip(".") if found else ""
    if token in _TITLES:
        return False
    if token in _BEFORE_NUMBERS:
        return not first.isdigit()
    is_initial = len(token.rsplit(".", 1)[-1]) == 1 and token[-1:].isalpha()
    if is_initial and _UNIT.search(sentence):
        return True
    is_number = token.isdigit() and len(token) <= 3
    if is_number and _STEP.search(sentence):
        # "2. Close the lid." in the middle of a line: the number of a step.
        return False
    if not (is_initial or is_number or token in _MAY_END):
        return True
    if word is None and is_open and (first.isalnum() or first == "_"):
        return None
    next_word = word.group().lower() if word else ""
    if is_number:
        # "am 5. Mai": an ordinal where a month follows.
        return next_word not in _MONTHS
    if first.isdigit():
        return False
    return next_word in _STARTERS


def _is_grouped(text: str, begin: int, stop: int, end: int, is_open: bool) -> bool | None:
    """Whether `stop` lies in a code span, bracket or quotation that the sentence opened before.

    A sentence that begins with the opening mark is cut inside it as anywhere else. None while that
    hangs on text to come.
    """
    opened: list[tuple[str, int]] = []
    position = begin
    is_undecided = False
    first = begin + len(text[begin:stop]) - len(text[begin:stop].lstrip(" \t\r\n*_"))
    while match := _GROUPED.search(text, position, stop):
        position = match.end()
        mark = match.group()
        if mark[0] == "`":
            limit = min(match.start() + _REACH, end)
            closing = _find_run(text, mark, position, limit)
            if closing is None:
                is_undecided |= is_open and limit == end
            elif closing > stop:
                return None if is_open and closing == end else True
            else:
                position = closing
        elif opened and mark in (_PAIRS.get(opened[-1][0]) or opened[-1][0]):
            opened.pop()
        elif mark in _PAIRS or mark == '"':
            opened.append((mark, match.start()))
    for mark, start in opened:
        if start == first:
            continue
        limit = min(start + _REACH, end)
        closers = _PAIRS.get(mark) or mark
        if any(text.find(closer, stop, limit) >= 0 for closer in closers):
            return True
        is_undecided |= is_open and limit == end
    return None if is_undecided else False


def _find_run(text: str, run: str, start: int, end: int) -> int | None:
    """The offset behind the next run of exactly these backticks."""
    for match in re.compile("`+").finditer(text, start, end):
        if len(match.group()) == len(run):
            return match.end()
    return None
