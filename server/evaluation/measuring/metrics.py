"""Every figure of `mynah eval`: its name, and what it reads of one question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from server.evaluation.measuring.retrieval import RetrievalRow

Group = Literal["retrieval", "answers", "citations", "abstention", "latency"]
Statistic = Literal["share", "p50", "p95"]
# A value of one question and its weight; None where the figure does not apply to it.
Reading = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure by its name; `meaning` is one sentence for the report.

    A `share` is sum(value) / sum(weight) over the questions; `p50` and `p95` are quantiles of the
    values. `is_rate` says that it lies between 0 and 1.
    """

    name: str
    title: str
    group: Group
    meaning: str
    read: Callable[[Any], Reading]
    statistic: Statistic = "share"
    is_less_better: bool = False
    is_rate: bool = True


def _rank_within(depth: int) -> Callable[[RetrievalRow], Reading]:
    return lambda row: None if row.rank is None else (float(0 < row.rank <= depth), 1.0)


def _of(value: float | None) -> Reading:
    return None if value is None else (value, 1.0)


RETRIEVAL_METRICS: tuple[Metric, ...] = (
    *(
        Metric(
            f"recall@{k}",
            f"recall@{k}",
            "retrieval",
            f"The passage with the evidence is among the first {k}.",
            _rank_within(k),
        )
        for k in (1, 5, 10)
    ),
    Metric(
        "mrr",
        "MRR",
        "retrieval",
        "Mean of 1 / rank of the passage with the evidence, 0 beyond the twentieth.",
        lambda row: None if row.rank is None else (1 / row.rank if row.rank else 0.0, 1.0),
    ),
    Metric(
        "ndcg@10",
        "nDCG@10",
        "retrieval",
        "Every piece of evidence counts 1 / log2(1 + rank) where it is first met, as a share of"
        " the best order.",
        lambda row: _of(row.ndcg),
    ),
    Metric(
        "all_evidence@10",
        "all evidence@10",
        "retrieval",
        "Everything that the question needs is among the first 10 passages.",
        lambda row: None if row.rank is None else (float(row.num_needed == row.num_found), 1.0),
    ),
    Metric(
        "answer@5",
        "answer@5",
        "retrieval",
        "An expected answer stands in one of the first 5 passages, whether or not it is the"
        " evidence (Karpukhin et al., 2020).",
        lambda row: _of(row.answer_found),
    ),
)

ANSWER_METRICS: tuple[Metric, ...] = (
    Metric(
        "containment",
        "contains an expected answer",
        "answers",
        "One of the variants stands in the answer on token boundaries, of answerable questions.",
        lambda o: _of(o.contains),
    ),
    Metric(
        "strict",
        "contains all parts",
        "answers",
        "One variant of every group of `all_of` stands in it (any variant where there are none).",
        lambda o: _of(o.strict),
    ),
    Metric(
        "em",
        "exact match",
        "answers",
        "SQuAD 2.0: the whole answer equals a variant; an abstention is the empty answer.",
        lambda o: _of(o.em),
    ),
    Metric("f1", "F1", "answers", "SQuAD 2.0: words shared with a variant.", lambda o: _of(o.f1)),
    Metric(
        "em_answerable",
        "exact match (answerable)",
        "answers",
        "SQuAD 1.1: of answerable questions alone.",
        lambda o: _of(o.em) if o.is_answerable else None,
    ),
    Metric(
        "f1_answerable",
        "F1 (answerable)",
        "answers",
        "SQuAD 1.1: of answerable questions alone.",
        lambda o: _of(o.f1) if o.is_answerable else None,
    ),
    Metric(
        "sentences",
        "sentences an answer",
        "answers",
        "Mean over the answers that state something.",
        lambda o: None if o.num_sentences is None else (float(o.num_sentences), 1.0),
        is_less_better=True,
        is_rate=False,
    ),
    Metric(
        "evidence_shown",
        "evidence in the prompt",
        "citations",
        "A passage with the evidence was read, of questions whose evidence is known.",
        lambda o: _of(o.gold_shown),
    ),
    Metric(
        "cites_evidence",
        "cites the evidence",
        "citations",
        "A passage with the evidence is cited, of answers that had one in the prompt.",
        lambda o: _of(o.cites_gold),
    ),
    Metric(
        "citation_recall",
        "citation recall",
        "citations",
        "ALCE: share of sentences that their cited passages back, by Mynah's checker.",
        lambda o: _of(o.citation_recall),
    ),
    Metric(
        "citation_precision",
        "citation precision",
        "citations",
        "ALCE: share of citations that are needed and right, by Mynah's checker.",
        lambda o: _of(o.citation_precision),
    ),
    Metric(
        "support",
        "support a sentence",
        "citations",
        "How far a sentence is backed by the span it cites, 0 to 1, mean over all sentences.",
        lambda o: None if o.support is None else (o.support, float(o.num_sentences or 0)),
    ),
    Metric(
        "supported",
        "sentences supported",
        "citations",
        "Share of all sentences whose support reaches the floor of the checker.",
        lambda o: (
            None if o.num_supported is None else (o.num_supported, float(o.num_sentences or 0))
        ),
    ),
    Metric(
        "abstention_recall",
        "abstains: not answerable",
        "abstention",
        "Share of unanswerable questions that were declined.",
        lambda o: None if o.is_answerable else (o.abstained, 1.0),
    ),
    Metric(
        "abstention_precision",
        "abstention precision",
        "abstention",
        "Share of abstentions that were right: the question has no answer.",
        lambda o: (o.abstained * (not o.is_answerable), o.abstained),
    ),
    Metric(
        "false_abstention",
        "abstains: answerable",
        "abstention",
        "Share of answerable questions that were declined.",
        lambda o: (o.abstained, 1.0) if o.is_answerable else None,
        is_less_better=True,
    ),
)


def _make_latencies() -> tuple[Metric, ...]:
    stages = {
        "search": ("search", lambda o: _of(o.search_ms)),
        "first_token": ("first token", lambda o: _of(o.first_token_ms)),
        "whole": ("whole answer", lambda o: _of(o.whole_ms)),
    }
    quantiles: tuple[tuple[Statistic, str], ...] = (("p50", "Median"), ("p95", "95th percentile"))
    return tuple(
        Metric(
            f"{name}_{statistic}_ms",
            f"{title}, {statistic}, ms",
            "latency",
            f"{said} of the time until the {title} was there, in milliseconds.",
            read,
            statistic,
            is_less_better=True,
            is_rate=False,
        )
        for name, (title, read) in stages.items()
        for statistic, said in quantiles
    )


LATENCY_METRICS = _make_latencies()
METRICS: Mapping[str, Metric] = {
    metric.name: metric for metric in (*RETRIEVAL_METRICS, *ANSWER_METRICS, *LATENCY_METRICS)
}
