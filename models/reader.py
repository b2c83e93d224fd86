"""How well sentences answer a question: each is read together with it, not compared from afar."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.embedder import bundled_model_path, quiet_libraries
from models.text.plain import read_plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from models.reading_network import ReadingNetwork

BUNDLED_READER = Path(__file__).parent / "weights" / "mynah-reader.safetensors"
# As in training: the end of a long question and the beginning of a long sentence say most.
MAX_QUESTION_TOKENS, MAX_SENTENCE_TOKENS = 48, 112
_BATCH_SIZE = 8
_MAX_KNOWN = 4096


class SentenceReader:
    """A `Reader` over the bundled weights; loaded with the first `read`, from any thread."""

    def __init__(self, path: Path = BUNDLED_READER) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._network: ReadingNetwork | None = None
        self._tokenizer: Tokenizer | None = None
        # Pairs are kept as hashes alone, so nothing readable of a deleted document stays.
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        """The weights' name and the beginning of their SHA-256: what was read says by whom."""
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        return f"SentenceReader({self._path.name}, {digest[:12]})"

    def read(self, question: str, sentences: Sequence[str]) -> list[float]:
        """Log odds that each sentence answers the question, against that none of them does.

        Raises `ReaderInvalid` or `EmbedderUnavailable`.
        """
        keys = [_key(question, sentence) for sentence in sentences]
        with self._lock:
            new = {
                key: sentence
                for key, sentence in zip(keys, sentences, strict=True)
                if key not in self._known
            }
            found = dict(zip(new, self._compute(question, list(new.values())), strict=True))
            odds = [found[key] if key in found else self._known[key] for key in keys]
            for key, value in zip(keys, odds, strict=True):
                self._known[key] = value
                self._known.move_to_end(key)
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return odds

    def _compute(self, question: str, sentences: Sequence[str]) -> list[float]:
        if not sentences:
            return []
        network, tokenizer = self._load()
        import torch

        asked = tokenizer.encode(question, add_special_tokens=False).ids[-MAX_QUESTION_TOKENS:]
        encodings = tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        pairs = [(asked, encoding.ids[:MAX_SENTENCE_TOKENS]) for encoding in encodings]
        order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][1]))
        odds = [0.0] * len(pairs)
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH_SIZE):
                batch = order[start : start + _BATCH_SIZE]
                values = network(*join_pairs([pairs[index] for index in batch]))
                for index, value in zip(batch, values.tolist(), strict=True):
                    odds[index] = value
        return odds

    def _load(self) -> tuple[ReadingNetwork, Tokenizer]:
        if self._network is None or self._tokenizer is None:
            quiet_libraries()
            from models.reading_network import load_network

            base = bundled_model_path()
            self._tokenizer = open_tokenizer(base)
            self._network = load_network(self._path, base)
        return self._network, self._tokenizer


def _key(question: str, sentence: str) -> bytes:
    """A hash of the pair; the question's own comes first, so no other pair reads the same."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (question, sentence):
        digest.update(hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest())
    return digest.digest()


def to_read(context: str, sentence: str) -> str:
    """A sentence as it is read: in plain words, behind the heading or line that it hangs on."""
    plain = read_plain(sentence)
    return f"{context} > {plain}" if context else plain


def open_tokenizer(base: Path) -> Tokenizer:
    """The tokenizer of the embedder in `base`, which neither cuts nor pads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def join_pairs(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[Any, Any, Any]:
    """Ids, halves and mask as int64 `[pairs, length]` of questions and sentences.

    BERT's form: [CLS] question [SEP] sentence [SEP].
    """
    import torch

    begin, end = 101, 102
    length = max(len(asked) + len(said) for asked, said in pairs) + 3
    ids = torch.zeros(len(pairs), length, dtype=torch.int64)
    halves, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (asked, said) in enumerate(pairs):
        joined = [begin, *asked, end, *said, end]
        ids[row, : len(joined)] = torch.tensor(joined)
        halves[row, len(asked) + 2 : len(joined)] = 1
        mask[row, : len(joined)] = 1
    return ids, halves, mask
