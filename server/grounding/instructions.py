"""Sentences of a document that address the model instead of a reader.

Deterministic and cautious: a handbook is full of imperatives ("Ignore the warning light", "Tell the
user to restart"), so only what speaks of prompts, answers or the assistant counts, and weak signs
count only beside strong ones. English, and the commonest phrases in German, French and Spanish.
"""

from __future__ import annotations

import re

from models.text.sentences import segment

# From here on a sentence is not quoted at all; weaker ones are only ranked lower.
EXCLUDED = 1.0
SUSPECT = 0.5

_AI = (
    r"(?:AI|A\.I\.|LLM|GPT|ChatGPT|(?:large )?language model|chat ?bot|(?:AI|virtual|helpful|chat) "
    r"assistant|assistant)s?"
)
_SPEECH = (
    r"(?:ignore|disregard|forget|override|bypass|reply|respond|answer|say|output|print|repeat|reveal|"
    r"tell|claim|state|recommend|include|append|add|pretend|mention|cite)"
)
_ORDERS = rf"(?:{_SPEECH}|you (?:must|should|are|will|can|may|have)|do not|never|always|must)"
_REPLY = r"(?:answer|reply|response|output)"
_RULES = (
    r"(?:instruction|prompt|rule|context|guideline|direction|training|programming|restriction|"
    r"constraint|command)s?"
)
_WORDING = (
    r"(?:the |a |these |this |following |exact(?:ly)? )*(?:words?|phrases?|texts?|sentences?|"
    r"strings?|tokens?|codes?|[\"“'*`]|(?-i:[A-Z]{3,}))"
)
_STRONG = re.compile(
    "|".join(
        (
            # "Ignore all previous instructions", "forget everything above".
            r"\b(?:ignore|disregard|forget|override|bypass|discard|neglect)\b[^.!?]{0,30}"
            r"\b(?:previous|prior|above|earlier|preceding|former|foregoing|your|system|original)\b"
            rf"[^.!?]{{0,25}}\b{_RULES}\b",
            r"\b(?:ignore|disregard|forget)\b[^.!?]{0,15}\b(?:everything|anything|all|what)\b"
            r"[^.!?]{0,25}\b(?:above|before|so far|previously|told|instructed)\b",
            r"\b(?:ignore|disregard|forget) (?:the|this|these|all) (?:documents?|passages?|context|"
            r"sources?|excerpts?|prompt|question)\b",
            # The assistant is called upon.
            r"\b(?:note|message|instructions?|attention|notice|hint|memo|reminder|order|dear|hey)\b"
            rf"[^.!?\w]{{0,3}}(?:to|for)?\s?(?:the |any |all |every |an? )?{_AI}\b"
            rf"(?=[^.!?]{{0,60}}(?:[:,]|\b{_ORDERS}\b))",
            rf"\bif you(?:'re| are) (?:an? |the )?{_AI}\b",
            rf"(?:^|[\s(\[>*-]){_AI}(?: \w+ing this)?\s?[:,]\s?(?:please )?{_SPEECH}\b",
            r"\b(?:AI|LLM|language model|chatbot)s? (?:assistants? )?(?:reading|processing|parsing|"
            rf"answering|summari[sz]ing)\b[^.!?]{{0,40}}\b{_ORDERS}\b",
            # It is given another role, or its rules are taken away.
            r"\byou are (?:now |no longer )(?:an? |the |called )?(?:(?-i:[A-Z][\w-]*)|\w*bot\b|"
            r"unrestricted|bound by|in \w+ mode|free (?:of|from))",
            rf"\byou are an? (?:\w+ ){{0,2}}{_AI}\b",
            r"\b(?:act|behave) as (?:an? )?(?:ai|llm|unrestricted|jailbroken)\b",
            r"\b(?:developer|debug|god|dan|admin|jailbreak) mode (?:is |has been )?(?:now )?"
            r"(?:on|enabled|active|activated)\b",
            r"\byour (?:system |hidden |initial |original |secret )+(?:prompt|instructions?)\b",
            r"\b(?:reveal|print|repeat|output|show|leak|disclose)\b[^.!?]{0,20}\b(?:system|hidden|"
            r"secret) (?:prompt|instructions)\b",
            # The shape of the answer is dictated.
            r"\b(?:reply|respond|answer)\b(?: to[^.!?]{0,30})? (?:only |solely |just |exactly )*"
            r"with "
            rf"{_WORDING}",
            r"\b(?:end|begin|start|finish|precede|prefix|close)\b[^.!?]{0,15}"
            r"\b(?:every|each|all|your)\b[^.!?]{0,12}\b(?:answer|response|output)s?\b[^.!?]{0,15}\b(?:with|by)\b",
            r"\b(?:append|add|insert|include|attach|put|place)\b[^.!?]{0,20}\b(?:image|link|url|line|"
            r"markdown|sentence|phrase|words?|token|code|text)\b[^.!?]{0,60}\b(?:to|in|into|of|after)\b"
            rf"[^.!?]{{0,12}}\b(?:your|every|each|the final) {_REPLY}s?\b",
            r"\bwhen(?:ever)? (?:you )?(?:answer|reply|respond|summari[sz])\w*\b"
            r"(?![^.!?,]*\b(?:phone|telephone|call|door|e-?mail|mail|ticket|customer|letter|message)\b)"
            r"[^.!?]{0,40}[, ]"
            r"(?:you )?(?:also |always |must |please )*(?:cite|say|tell|add|include|mention|write|"
            r"recommend|append|direct|send|link)\b",
            r"\b(?:answer|reply to|respond to) (?:every|all|any|each)(?: \w+)? questions? "
            r"(?:with|by)\b",
            r"\b(?:correct|right|only|true) answer to (?:any|every|all|the user|this|the) "
            r"?(?:question|user)",
            r"\bfrom now on\b[^.!?]{0,20}\b(?:answer|reply|respond|speak|call yourself)\b(?! the)",
            r"\bas an ai (?:language )?(?:model|assistant)\b",
            r"\b(?:ignorier|vergiss|missachte)\w*\b[^.!?]{0,30}\b(?:vorherig|bisherig|obig|früher|"
            r"system)\w*\b[^.!?]{0,20}(?:anweisung|regel|vorgabe|prompt)",
            r"\b(?:ignore[zr]?|oublie[zr]?)\b[^.!?]{0,30}\b(?:instructions?|consignes?)\b[^.!?]{0,20}"
            r"\bprécédente?s?\b",
            r"\b(?:ignor[ae]|olvid[ae])\b[^.!?]{0,30}\binstrucciones\b[^.!?]{0,20}\banterior",
        )
    ),
    re.IGNORECASE,
)
# Turns of a conversation that the document forges, with an order behind them.
_ROLE = re.compile(
    r"(?:(?:^|\n|[>\]]\s?|[.!?]\s)(?:#{1,4}\s?)?(?:system|assistant|developer)|\[?\b(?-i:SYSTEM|ASSISTANT))"
    r"(?: (?:message|prompt|note|override|instruction)s?)?\s?[:\]][^.!?]{0,80}"
    rf"\b(?:{_SPEECH}|you (?:must|should|are|will|can|may|have|now))\b",
    re.IGNORECASE,
)
_CHAT_MARK = re.compile(
    r"<\|[\w|]{2,30}\|?>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|#{2,3} ?(?:instruction|system|response)s?\b\s?:?",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"\b(?:tell|inform|ask|advise|direct|convince|instruct|urge|assure) (?:the |every |any )?"
    r"(?:user|reader|person|asker|human|visitor|customer|employee)s?\b"
    r"|\b(?:say|state|claim|output|print|write|repeat)\b|\b(?:recommend|mention|cite|forget)\b"
    rf"|\b(?:every|each|all|your|the) (?:further |other )?(?:{_REPLY}|question)s?\b"
    rf"|\byou (?:must|are|will)\b|\b{_AI}\b|\bthis (?:instruction|message|overrides?)\b"
    r"|\binstructions?\b|\b(?:reply|respond|ignore|disregard)\b",
    re.IGNORECASE,
)
# Alone these are said to readers, too: such a sentence is only ranked lower.
_SUSPECT = re.compile(
    rf"\bin your (?:final |next )?{_REPLY}\b|\bto your {_REPLY}\b|\bsay exactly\b"
    r"|\bdo not (?:answer|cite|quote)\b|\b(?:end|begin|start) (?:every|each|your) repl(?:y|ies)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_REACH = 2


def weigh_instructions(text: str) -> dict[int, float]:
    """For each suspect sentence of a passage, by its `start`, how surely it addresses the model.

    `EXCLUDED` (1.0): it does, and is no evidence for anything. `SUSPECT`: it may. Sentences that
    are not suspect are left out.
    """
    comments = [match.span() for match in _COMMENT.finditer(text)]
    has_marks = _CHAT_MARK.search(text) is not None
    if not (comments or has_marks or any(p.search(text) for p in (_STRONG, _ROLE, _SUSPECT))):
        return {}
    sentences = segment(text)
    strong = [_is_strong(sentence.text) for sentence in sentences]
    weights: dict[int, float] = {}
    for number, sentence in enumerate(sentences):
        is_weak = _WEAK.search(sentence.text) is not None
        # No reader sees a comment.
        is_hidden = any(
            min(end, sentence.end) - max(start, sentence.start)
            > (sentence.end - sentence.start) / 2
            for start, end in comments
        )
        is_near = is_weak and any(strong[max(0, number - _REACH) : number + _REACH + 1])
        is_forged = is_weak and _CHAT_MARK.search(sentence.text) is not None
        if strong[number] or is_hidden or is_near or is_forged:
            weights[sentence.start] = EXCLUDED
        elif _SUSPECT.search(sentence.text):
            weights[sentence.start] = SUSPECT
    return weights


def _is_strong(text: str) -> bool:
    return _STRONG.search(text) is not None or _ROLE.search(text) is not None
