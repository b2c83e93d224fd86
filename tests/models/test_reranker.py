"""The cross-encoder over a tiny random checkpoint that is built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from models.errors import RerankerUnavailable
from models.reranker import CrossEncoderReranker
from server.assembly import make_reranker
from server.config import load_settings
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines

WORDS = (
    "which badge do visitors wear a white lost costs twelve euros the lobby opens at eight".split()
)
LINES = [
    "Visitors wear a white badge",
    "A lost badge costs twelve euros",
    "The lobby opens at eight",
]
QUESTION = "which badge do visitors wear"


def make_checkpoint(folder: Path, num_labels: int = 1) -> Path:
    """A BERT of 16 dimensions with random weights that classifies pairs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder.mkdir()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(set(WORDS))])}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    make_config: Any = BertConfig
    config = make_config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=num_labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("reranker") / "tiny")


def test_a_score_belongs_to_its_pair_whatever_stands_beside_it(checkpoint: Path) -> None:
    reranker = CrossEncoderReranker(checkpoint)
    scores = reranker.score(QUESTION, LINES)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert len(set(scores)) == len(LINES)
    for line, score in zip(LINES, scores, strict=True):
        assert reranker.score(QUESTION, [line]) == [pytest.approx(score, abs=1e-5)]
    assert reranker.score(QUESTION, []) == []


def test_the_reranker_orders_hits_that_are_otherwise_alike(
    checkpoint: Path, tmp_path: Path
) -> None:
    reranker, embedder = CrossEncoderReranker(checkpoint), HashingEmbedder()
    with Library(tmp_path, embedder) as library:
        put_lines(library, embedder, "lobby.txt", *LINES)
        plain = HybridRetriever(library, embedder).search(QUESTION)
        hits = HybridRetriever(library, embedder, reranker=reranker).search(QUESTION)
    own = dict(zip(LINES, reranker.score(QUESTION, LINES), strict=True))
    former = {hit.passage.text: hit.score for hit in plain}
    assert {hit.passage.text for hit in hits} == set(former)
    for hit in hits:
        text = hit.passage.text
        assert hit.score == pytest.approx(0.3 * former[text] + 0.7 * own[text], abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_wrong_folder_is_one_line_that_names_it(tmp_path: Path) -> None:
    settings = load_settings(reranker=tmp_path / "nowhere")
    with pytest.raises(RerankerUnavailable, match=r"no cross-encoder in .*nowhere") as caught:
        make_reranker(settings)
    assert "\n" not in caught.value.message
    assert make_reranker(load_settings()) is None


def test_damaged_weights_and_a_model_of_another_kind_are_named(tmp_path: Path) -> None:
    damaged = make_checkpoint(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(RerankerUnavailable, match="cannot be loaded") as caught:
        CrossEncoderReranker(damaged).score(QUESTION, LINES)
    assert "\n" not in caught.value.message
    labelled = make_checkpoint(tmp_path / "labelled", num_labels=3)
    with pytest.raises(RerankerUnavailable, match="gives 3 scores"):
        CrossEncoderReranker(labelled).score(QUESTION, LINES)
