"""Turns that ask nothing, such as "thanks" and "hello": no passage answers them, a reply does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from models.text.words import find_words

Kind = Literal["greeting", "thanks", "farewell", "assent"]

# Words that make a turn a courtesy, by language and kind; accents are folded away.
_CORES: Mapping[str, Mapping[Kind, str]] = {
    "en": {
        "greeting": "hi hello hey hiya greetings morning afternoon evening",
        "thanks": "thanks thank thx ty cheers appreciated",
        "farewell": "bye goodbye cya farewell night",
        "assent": "ok okay great perfect cool nice fine understood excellent awesome alright",
    },
    "de": {
        "greeting": "hallo moin servus guten tag morgen",
        "thanks": "danke dankeschon dank",
        "farewell": "tschuss tschuess wiedersehen",
        "assent": "verstanden prima alles klar",
    },
    "fr": {
        "greeting": "bonjour bonsoir salut coucou",
        "thanks": "merci",
        "farewell": "revoir adieu",
        "assent": "parfait accord compris",
    },
    "es": {
        "greeting": "hola buenos buenas dias tardes noches",
        "thanks": "gracias",
        "farewell": "adios luego",
        "assent": "perfecto vale entendido",
    },
    "it": {
        "greeting": "ciao buongiorno buonasera",
        "thanks": "grazie",
        "farewell": "arrivederci",
        "assent": "perfetto capito",
    },
    "nl": {
        "greeting": "goedemorgen goedemiddag goedenavond",
        "thanks": "bedankt dankjewel dankuwel",
        "farewell": "doei",
        "assent": "begrepen",
    },
}
# Words that may stand beside those.
_FILLERS = frozenset(
    "a again all and answer are be been bit day dear for from good have help helpful how i info "
    "information is it its job just kind later lot lots many me much my nice now of oh one quick "
    "really see so such team that the there this to today tomorrow very was well will wonderful "
    "you your yours "
    "auf bis das dir du einen es fur ganz gut hilfe ihnen ihre ja schon schonen sehr sie super "
    "viel vielen vielmals wie "
    "au beaucoup bien c ce d est et la le mille pour tout votre "
    "al de el hasta lo muchas muchos muy por su todo "
    "a buona e giornata molte presto tante "
    "dag erg fijne heel je veel wel".split()
)
_REPLIES: Mapping[str, Mapping[Kind, str]] = {
    "en": {
        "greeting": "Hello! What would you like to know?",
        "thanks": "You're welcome.",
        "farewell": "Goodbye!",
        "assent": "All right. Is there anything else you would like to know?",
    },
    "de": {
        "greeting": "Hallo! Was möchten Sie wissen?",
        "thanks": "Gern geschehen.",
        "farewell": "Auf Wiedersehen!",
        "assent": "Gut. Möchten Sie noch etwas wissen?",
    },
    "fr": {
        "greeting": "Bonjour ! Que souhaitez-vous savoir ?",
        "thanks": "Je vous en prie.",
        "farewell": "Au revoir !",
        "assent": "Très bien. Souhaitez-vous savoir autre chose ?",
    },
    "es": {
        "greeting": "¡Hola! ¿Qué desea saber?",
        "thanks": "De nada.",
        "farewell": "¡Hasta luego!",
        "assent": "Muy bien. ¿Desea saber algo más?",
    },
    "it": {
        "greeting": "Buongiorno! Che cosa desidera sapere?",
        "thanks": "Prego.",
        "farewell": "Arrivederci!",
        "assent": "Bene. Desidera sapere altro?",
    },
    "nl": {
        "greeting": "Hallo! Wat wilt u weten?",
        "thanks": "Graag gedaan.",
        "farewell": "Tot ziens!",
        "assent": "Goed. Wilt u nog iets weten?",
    },
}
_MAX_WORDS = 10
_ORDER: tuple[Kind, ...] = ("thanks", "farewell", "greeting", "assent")


def find_courtesy(text: str) -> str | None:
    """The reply to a turn that asks nothing, in its language; None for every other turn.

    Every word must be a courtesy or a filler beside one, so that a question behind a greeting is
    still a question. A turn without any letter or digit, a smile say, asks nothing in any language.
    """
    words = find_words(text)
    if not words:
        return _REPLIES["en"]["assent"]
    if len(words) > _MAX_WORDS:
        return None
    found = {word: core for word in words if (core := _find_core(word)) is not None}
    if not found or any(word not in found and word not in _FILLERS for word in words):
        return None
    kinds = {kind for _, kind in found.values()}
    kind = next(kind for kind in _ORDER if kind in kinds)
    language = next(lang for lang, own in found.values() if own == kind)
    return _REPLIES[language][kind]


def _find_core(word: str) -> tuple[str, Kind] | None:
    """Language and kind of a courtesy's word."""
    for language, kinds in _CORES.items():
        for kind, cores in kinds.items():
            if word in cores.split():
                return language, kind
    return None
