from __future__ import annotations

import json
import unicodedata

from models.imitation.tuning.parity import NUM_STRINGS, own_form
from models.imitation.tuning.strings import parity_strings
from tests.models.imitation.tuning.checkpoints import TEXTS

STRINGS = parity_strings(NUM_STRINGS, TEXTS)


def test_strings_are_many_and_of_every_kind() -> None:
    assert len(set(STRINGS)) == NUM_STRINGS
    assert parity_strings(50, TEXTS) == parity_strings(50, TEXTS) != parity_strings(50, TEXTS, 1)
    joined = "".join(STRINGS)
    for wanted in ("\r\n", "\t", "  ", "🦜", "東京", "7", "def ", "don't", "\u3000", "<|im_end|>"):
        assert wanted in joined
    assert {"Lo", "Ll", "Nd", "No", "Sc"} <= {unicodedata.category(char) for char in joined}


def test_a_tokenizers_own_changes_come_first() -> None:
    composed = own_form(json.dumps({"normalizer": {"type": "NFC"}}))
    assert composed("Cafe\u0301 ") == "Caf\u00e9 "
    space = own_form(
        json.dumps({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}})
    )
    assert space("  a b ") == "a b "
    assert own_form("{}")("  Cafe\u0301") == "  Cafe\u0301"
