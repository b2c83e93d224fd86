"""The reader's file, its batches, and what the shipped weights know."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from models.embedder import bundled_model_path
from models.errors import ReaderInvalid
from models.reader import BUNDLED_READER, SentenceReader, join_pairs
from models.reading_network import ReadingNetwork, load_network
from tests.reachable import find_texts

QUESTION = "How many weeks of parental leave does each parent receive?"
SENTENCES = [
    "Parental leave > Each parent receives 16 weeks of paid leave.",
    "Parental leave > Tell your manager before the leave begins.",
    "Parking > The garage closes at nine.",
    "Parental leave > The form is kept by the personnel office, which answers within a week, and "
    "whoever needs it sooner asks at the desk on the ground floor of the Heron building.",
]


@pytest.fixture(scope="module")
def reader() -> SentenceReader:
    return SentenceReader()


def test_the_sentence_that_answers_is_the_likeliest(reader: SentenceReader) -> None:
    odds = reader.read(QUESTION, SENTENCES)
    assert odds.index(max(odds)) == 0
    assert odds[2] < 0


def test_company_and_order_change_nothing(reader: SentenceReader) -> None:
    together = reader.read(QUESTION, SENTENCES)
    alone = [SentenceReader().read(QUESTION, [sentence])[0] for sentence in SENTENCES[:2]]
    assert together[:2] == pytest.approx(alone, abs=1e-3)
    assert reader.read(QUESTION, SENTENCES[::-1]) == together[::-1]
    assert reader.read(QUESTION, [SENTENCES[0]] * 2) == [together[0]] * 2
    assert reader.read(QUESTION, []) == []


def test_nothing_that_was_read_is_kept_in_plain_text() -> None:
    reader = SentenceReader()
    first = reader.read(QUESTION, SENTENCES)
    texts = find_texts(reader)
    assert str(BUNDLED_READER) in texts
    assert not [text for text in texts for read in (QUESTION, *SENTENCES) if read in text]
    assert reader.read(QUESTION, SENTENCES) == first


def test_pairs_whose_texts_join_alike_are_told_apart(reader: SentenceReader) -> None:
    whole, moved = "who pays? Each parent", "who pays? Each"
    both = reader.read(whole, ["pays."]), reader.read(moved, [" parentpays."])
    assert both[0] == SentenceReader().read(whole, ["pays."])
    assert both[1] == SentenceReader().read(moved, [" parentpays."])


def test_a_reader_is_known_by_its_weights(tmp_path: Path) -> None:
    other = tmp_path / BUNDLED_READER.name
    other.write_bytes(b"others")
    assert repr(SentenceReader()) == repr(SentenceReader()) != repr(SentenceReader(other))


def test_texts_of_any_length_are_read(reader: SentenceReader) -> None:
    odds = reader.read("why " * 3000, ["", "x", "word " * 5000])
    assert all(-100 < value < 100 for value in odds)


def test_a_saved_network_reads_as_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ReadingNetwork(bundled_model_path()).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    network.save(tmp_path / "reader.safetensors")
    again = load_network(tmp_path / "reader.safetensors", bundled_model_path())
    batch = join_pairs([([2129, 2116], [2385, 3134]), ([2129], [7281, 6000, 9000])])
    with torch.inference_mode():
        assert torch.allclose(network(*batch), again(*batch), atol=0.05)


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign", "missing"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "reader.safetensors"
    if damage == "cut":
        path.write_bytes(BUNDLED_READER.read_bytes()[:100_000])
    elif damage == "noise":
        path.write_bytes(b"\xff" * 5000)
    elif damage == "foreign":
        shutil.copy(bundled_model_path() / "model.safetensors", path)
    with pytest.raises(ReaderInvalid) as caught:
        SentenceReader(path).read(QUESTION, SENTENCES)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
