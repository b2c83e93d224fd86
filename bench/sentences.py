"""Which sentences answer: `SignalWeights` fitted, and what `choose` makes of them.

`python -m bench.sentences [--limit PACKS] [--read]`

The questions are those of the written conversations, each over its own organisation's documents. A
sentence is right if it shares most topic words with a piece of the written answer. Figures are of
fits on other organisations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.packs import Asked, is_pack_kept_back, write_packs
from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.embedder import SentenceEmbedder
from models.reader import SentenceReader
from models.text.ranking import SIGNAL_NAMES, SignalWeights
from models.text.words import find_topic_words
from server.grounding.candidates import Candidate, CandidateRanker
from server.grounding.choice import ChoiceRules, choose
from server.grounding.conversation import read_conversation

_NUM_FOLDS = 5
_NUM_FOUND, _NUM_PASSAGES = 12, 6
_PENALTY = 1e-3


@dataclass(frozen=True)
class Case:
    """A question's candidates: signals `[candidates, signals]`, and which are right."""

    pack: str
    query: str
    candidates: list[Candidate]
    signals: NDArray[np.float64]
    is_right: NDArray[np.bool_]


def main() -> None:
    """Print the weights as Python, and figures by margin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=1000, help="at most so many organisations")
    parser.add_argument("--read", action="store_true", help="with the reader, of unseen packs")
    options = parser.parse_args()
    if options.read:
        _show_read(read_cases(options.limit, is_read=True))
        return
    cases = read_cases(options.limit)
    folds = {name: n % _NUM_FOLDS for n, name in enumerate(sorted({case.pack for case in cases}))}
    fits = [fit([case for case in cases if folds[case.pack] != fold]) for fold in range(_NUM_FOLDS)]
    current = [getattr(SignalWeights(), name) for name in SIGNAL_NAMES]
    num_candidates = np.mean([len(case.is_right) for case in cases])
    print(f"{len(cases)} questions, {num_candidates:.1f} candidates each")
    print("right sentence among the first 1, 2, 3")
    print("  now   ", _rank(cases, lambda case: case.signals @ current))
    print("  fitted", _rank(cases, lambda case: case.signals @ fits[folds[case.pack]]))
    print(f"SignalWeights({_show(fit(cases))})\n")
    print("margin  sentences  right one among them (weights as they are)")
    for margin in (0.04, 0.06, 0.08, 0.09, 0.1, 0.12):
        for bonus in (0.0, 0.05, 0.08):
            rules = ChoiceRules(margin=margin, novelty_bonus=bonus)
            num, share = _choose_all(cases, rules)
            print(f"{margin:.2f} {bonus:.2f}  {num:.2f}       {share:.3f}")


def _show_read(cases: list[Case]) -> None:
    print(f"{len(cases)} questions, read")
    print("right sentence among the first 1, 2, 3")
    print("  ", _rank(cases, lambda case: np.array([c.score for c in case.candidates])))
    print("margin, bonus  sentences  right one among them")
    for margin in (0.10, 0.12, 0.14, 0.16):
        for bonus in (0.0, 0.05, 0.1):
            num, share = _choose_all(cases, ChoiceRules(margin=margin, novelty_bonus=bonus))
            print(f"{margin:.2f}    {bonus:.2f}   {num:.2f}       {share:.3f}")


def read_cases(limit: int, *, is_read: bool = False) -> list[Case]:
    """Every answerable question whose answer some candidate holds."""
    embedder = SentenceEmbedder()
    # The others first: their weights say which sentences are read at all.
    reader = SentenceReader() if is_read else None
    ranker = CandidateRanker(embedder, reader=reader)
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        docs = Path(scratch) / "docs"
        asked = list(write_packs(docs, lambda _: True))
        names = sorted({question.collection for question in asked})[:limit]
        with Library(Path(scratch) / "data", embedder) as library:
            retriever = HybridRetriever(library, embedder, reader=reader)
            for name in names:
                if is_read and not is_pack_kept_back(name):
                    continue
                ingest([docs / name], name, library, embedder)
                for question in asked:
                    if question.collection == name and question.is_answerable:
                        case = _read_case(question, retriever, ranker)
                        if case.is_right.any():
                            cases.append(case)
    return cases


def _read_case(question: Asked, retriever: HybridRetriever, ranker: CandidateRanker) -> Case:
    query = read_conversation(question.messages).search_query
    hits = retriever.search(query, collections=(question.collection,), max_hits=_NUM_FOUND)
    candidates = ranker.rank(query, hits[:_NUM_PASSAGES])
    shared = np.array([_share(candidate.text, question.said) for candidate in candidates])
    best = max(shared.max(initial=0.0), 0.3)
    rows = [[getattr(c.signals, name) for name in SIGNAL_NAMES] for c in candidates]
    return Case(
        question.collection, query, candidates, np.array(rows), (shared >= 0.5) | (shared == best)
    )


def _share(sentence: str, pieces: Sequence[str]) -> float:
    """Largest Jaccard index (0..1) of a sentence's topic words with those of a piece."""
    words = set(find_topic_words(sentence))
    said = [set(find_topic_words(piece)) for piece in pieces]
    return max((len(words & other) / max(1, len(words | other)) for other in said), default=0.0)


def fit(cases: Sequence[Case]) -> NDArray[np.float64]:
    """Weights under which the right sentences of a question are likeliest together (softmax)."""
    stacked = np.concatenate([case.signals for case in cases])
    deviation = stacked.std(axis=0) + 1e-6
    num, most = len(cases), max(len(case.is_right) for case in cases)
    values = torch.zeros(num, most, stacked.shape[1], dtype=torch.float64)
    absent = torch.full((num, most), -1e9, dtype=torch.float64)
    wrong = torch.full((num, most), -1e9, dtype=torch.float64)
    for row, case in enumerate(cases):
        size = len(case.is_right)
        values[row, :size] = torch.from_numpy(case.signals / deviation)
        absent[row, :size] = 0
        wrong[row, :size][torch.from_numpy(case.is_right)] = 0
    weights = torch.zeros(stacked.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100)

    def measure() -> Any:
        optimizer.zero_grad()
        chances = (values @ weights + absent).log_softmax(-1)
        loss = -(chances + wrong).logsumexp(-1).mean() + _PENALTY * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(measure)  # type: ignore[no-untyped-call]
    found: NDArray[np.float64] = weights.detach().numpy() / deviation
    return found


def _rank(cases: Sequence[Case], score: Any) -> str:
    found = []
    for case in cases:
        order = np.argsort(-score(case), kind="stable")
        found.append([case.is_right[order[:num]].any() for num in (1, 2, 3)])
    return "  ".join(f"{share:.3f}" for share in np.mean(found, axis=0))


def _choose_all(cases: Sequence[Case], rules: ChoiceRules) -> tuple[float, float]:
    sizes, right = [], []
    for case in cases:
        candidates = case.candidates[: rules.max_candidates]
        chosen = choose(case.query, candidates, [0.0] * len(candidates), rules)
        places = {id(candidate): place for place, candidate in enumerate(case.candidates)}
        sizes.append(len(chosen))
        right.append(any(case.is_right[places[id(choice.candidate)]] for choice in chosen))
    return float(np.mean(sizes)), float(np.mean(right))


def _show(weights: NDArray[np.float64]) -> str:
    pairs = zip(SIGNAL_NAMES, weights, strict=True)
    return ", ".join(f"{name}={weight:.2f}" for name, weight in pairs)


if __name__ == "__main__":
    main()
