"""Figures of an exported GGUF on held-out examples, through llama.cpp.

`python -m models.imitation.evaluation --model model.gguf --examples held.jsonl --limit 250`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.imitation.dataset import load_examples
from models.imitation.examples import Example
from models.imitation.questions import STOP_WORDS
from models.imitation.runner import Model, prompt_ids
from models.imitation.sources import Passage, split_sentences, words
from models.imitation.tokenizer import END, NO, REFUSAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What one candidate is described by; `evaluate` and whoever fits weights on it use these names.
FEATURES = ("first", "sum", "mean", "verdict", "overlap", "cosine")


@dataclass(frozen=True)
class Case:
    """One question over passages, the candidates that answer it by index, none if unanswerable."""

    passages: tuple[Passage, ...]
    question: str
    candidates: tuple[tuple[int, str], ...]  # passage number from 1, sentence
    gold: frozenset[int]


def cases_of(examples: Sequence[Example], rng: random.Random, num_passages: int = 4) -> list[Case]:
    """Return, for every question, a case with its gold passage and near misses, shuffled.

    Passages of other examples fill up to `num_passages`.
    """
    cases = []
    for index, example in enumerate(examples):
        other = examples[(index + 1) % len(examples)]
        for question in example.questions:
            if not question.gold:
                continue
            shown = list(example.passages)
            shown = [shown.pop(question.passage), *shown]
            shown = list({p.text: p for p in shown + list(other.passages)}.values())[:num_passages]
            rng.shuffle(shown)
            cases.append(case(shown, question.text, question.gold))
    return cases


def case(passages: Sequence[Passage], question: str, gold: Sequence[str]) -> Case:
    """Return the case whose candidates are all sentences of the passages of a usual length."""
    candidates = [
        (number, sentence)
        for number, passage in enumerate(passages, 1)
        for sentence in split_sentences(passage.text)
        if 15 < len(sentence) < 500
    ]
    right = frozenset(i for i, (_, sentence) in enumerate(candidates) if sentence in gold)
    return Case(tuple(passages), question, tuple(candidates), right)


def without_answer(item: Case) -> Case:
    """Return the case with every passage that holds a gold sentence taken away."""
    gold = [item.candidates[index][1] for index in item.gold]
    passages = [p for p in item.passages if not any(sentence in p.text for sentence in gold)]
    return case(passages, item.question, ())


def overlap(question: str, sentences: Sequence[str]) -> list[float]:
    """Return each sentence's share of the question's content words, rare words counting more."""
    bags = [set(words(sentence)) for sentence in sentences]
    asked = [word for word in dict.fromkeys(words(question)) if word not in STOP_WORDS]
    weight = {
        word: np.log(1 + len(bags) / (1 + sum(word in bag for bag in bags))) for word in asked
    }
    total = sum(weight.values()) or 1.0
    return [sum(weight[word] for word in asked if word in bag) / total for bag in bags]


def score(model: Model, item: Case) -> dict[str, list[float]]:
    """Return the model's features for each candidate and, last, for the refusal.

    `sum` and `mean` are log-likelihoods in nats of the sentence, `first` of its first token;
    `verdict` the log-odds, after the sentence, of a citation mark or the end against `<|no|>`.
    """
    prefix = prompt_ids(model, item.passages, item.question)
    end, no = (model.encode(name, control=True)[0] for name in (END, NO))
    mark = model.encode(" [1]")[0]
    model.forget(0)
    header = model.run(prefix, 0, only_last=True)[0]
    out: dict[str, list[float]] = {name: [] for name in ("first", "sum", "mean", "verdict")}
    for sentence in [sentence for _, sentence in item.candidates] + [REFUSAL]:
        ids = model.encode(sentence)
        after = model.run(ids, len(prefix))
        model.forget(len(prefix))
        each = [float(header[ids[0]])] + [float(after[i, t]) for i, t in enumerate(ids[1:])]
        out["first"].append(each[0])
        out["sum"].append(sum(each))
        out["mean"].append(sum(each) / len(each))
        out["verdict"].append(float(np.logaddexp(after[-1, mark], after[-1, end]) - after[-1, no]))
    return out


def answer(model: Model, item: Case, max_tokens: int = 96, *, may_refuse: bool = True) -> str:
    """Return the greedy answer, control tokens written out, without the end.

    Without `may_refuse` the refusal's first token is not allowed to come first.
    """
    ids = prompt_ids(model, item.passages, item.question)
    end = model.encode(END, control=True)[0]
    model.forget(0)
    position = 0
    found: list[int] = []
    while len(found) < max_tokens:
        scores = model.run(ids, position, only_last=True)[0]
        if not found and not may_refuse:
            scores[model.encode(REFUSAL)[0]] = -np.inf
        token = int(scores.argmax())
        if token == end:
            break
        position += len(ids)
        ids = [token]
        found.append(token)
    return model.decode(found, control=True)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the chance that a positive value exceeds a negative one, ties counting half."""
    a, b = np.array(positive)[:, None], np.array(negative)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def top1(scores: Sequence[NDArray[np.float64]], golds: Sequence[frozenset[int]]) -> float:
    """Return the share of cases whose best candidate is a gold one."""
    return float(np.mean([int(s.argmax()) in gold for s, gold in zip(scores, golds, strict=True)]))


def evaluate(
    model: Model,
    items: Sequence[Case],
    encode: Callable[[list[str]], NDArray[np.float32]] | None,
    num_answers: int,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures and, for each case, the features of its candidates, to fit weights on."""
    records = []
    for item in items:
        sentences = [sentence for _, sentence in item.candidates]
        features = score(model, item)
        features["overlap"] = overlap(item.question, sentences)
        if encode:
            vectors = encode([item.question, *sentences])
            features["cosine"] = [float(value) for value in vectors[1:] @ vectors[0]]
        record: dict[str, Any] = {"gold": sorted(item.gold), "features": features}
        removed = without_answer(item)
        if removed.candidates:
            record["removed"] = score(model, removed)
        records.append(record)
    figures = choose_figures(records)
    figures |= refusal_figures(records)
    if num_answers:
        figures |= answer_figures(model, items[:num_answers])
    return figures, records


def choose_figures(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return top-1 accuracy by each feature alone and by sums of standardised features."""
    golds = [frozenset(record["gold"]) for record in records]
    names = [name for name in FEATURES if name in records[0]["features"]]
    columns: dict[str, list[NDArray[np.float64]]] = {
        name: [np.array(r["features"][name][: len(r["features"]["overlap"])]) for r in records]
        for name in names
    }
    figures = {f"top1/{name}": top1(columns[name], golds) for name in names}
    figures["top1/chance"] = float(
        np.mean([len(g) / len(s) for g, s in zip(golds, columns["sum"], strict=True)])
    )
    standard = {name: [standardise(values) for values in columns[name]] for name in names}
    mixes = [
        ("overlap", "cosine"),
        ("overlap", "cosine", "verdict"),
        ("overlap", "cosine", "sum"),
        ("overlap", "cosine", "mean"),
        ("overlap", "cosine", "verdict", "mean"),
    ]
    for mix in mixes:
        if all(name in standard for name in mix):
            sums = [
                np.sum([standard[name][i] for name in mix], axis=0) for i in range(len(records))
            ]
            figures["top1/" + "+".join(mix)] = top1(sums, golds)
    return figures


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `values` with mean 0 and deviation 1 over the candidates of one question."""
    out: NDArray[np.float64] = (values - values.mean()) / (values.std() + 1e-6)
    return out


def refusal_figures(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return AUCs of telling cases without an answer from the same with one."""

    def signals(features: dict[str, list[float]]) -> dict[str, float]:
        best = {name: max(features[name][:-1]) for name in ("sum", "mean", "verdict")}
        return {
            "sum": features["sum"][-1] - best["sum"],
            "mean": features["mean"][-1] - best["mean"],
            "first": features["first"][-1],
            "verdict": features["verdict"][-1],
            "verdicts": -best["verdict"],
            "both": features["verdict"][-1] - best["verdict"],
        }

    with_answer = [signals(r["features"]) for r in records if "removed" in r]
    without = [signals(r["removed"]) for r in records if "removed" in r]
    return {
        f"refusal_auc/{name}": auc([s[name] for s in without], [s[name] for s in with_answer])
        for name in with_answer[0]
    }


def answer_figures(model: Model, items: Sequence[Case]) -> dict[str, float]:
    """Return rates of greedy answers, free and with the refusal ruled out (`forced`).

    `verbatim`: the answer stands in a passage word for word; `right`: it begins with a gold
    sentence; `cited`: verbatim, with the number of a passage that holds it; `rejected`: the model
    ended it with `<|no|>`.
    """
    counts = {"refused": 0, "refused_removed": 0}
    forced = {"verbatim": 0, "right": 0, "cited": 0, "rejected": 0}
    for item in items:
        counts["refused"] += REFUSAL in answer(model, item)
        counts["refused_removed"] += REFUSAL in answer(model, without_answer(item))
        text = answer(model, item, may_refuse=False)
        said = text.split(NO)[0].rsplit(" [", 1)[0].strip()
        holders = [n for n, p in enumerate(item.passages, 1) if said and said in p.text]
        gold = [item.candidates[index][1] for index in item.gold]
        forced["verbatim"] += bool(holders)
        forced["right"] += any(said.startswith(sentence) for sentence in gold)
        forced["cited"] += any(text.rstrip().endswith(f" [{n}]") for n in holders)
        forced["rejected"] += NO in text
    figures = {f"greedy/{name}": count / len(items) for name, count in counts.items()}
    return figures | {f"forced/{name}": count / len(items) for name, count in forced.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure a GGUF on held-out examples.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--examples", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=250, help="questions of each file")
    parser.add_argument("--answers", type=int, default=60, help="greedy answers of each file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-embedder", action="store_true")
    parser.add_argument("--out", type=Path, help="features of every candidate, JSON lines")
    options = parser.parse_args()
    encode = None
    if not options.no_embedder:
        from models.imitation.training import sentence_encoder

        embed = sentence_encoder()

        def encode(texts: list[str]) -> NDArray[np.float32]:
            vectors = embed(texts).numpy()
            out: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            return out

    model = Model(options.model, options.threads)
    for path in options.examples:
        items = cases_of(load_examples(path), random.Random(0))
        items = [item for item in items if item.gold and len(item.candidates) > 3][: options.limit]
        figures, records = evaluate(model, items, encode, options.answers)
        print(f"{path.name}: {len(items)} questions")
        for name, value in figures.items():
            print(f"  {name:32s} {value:.3f}")
        if options.out:
            with options.out.open("a", encoding="utf-8") as out:
                out.writelines(json.dumps({"file": path.stem, **r}) + "\n" for r in records)


if __name__ == "__main__":
    main()
