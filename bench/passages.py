"""Reuse of passages: time to the first token, and how far the logits are from those of a prefill.

`python -m bench.passages [--model PATH] [--threads N] [--kv-type T] [--repeats N] [--json]`

The load: a system message, 4 of 40 passages of 170 words that were all seen before in other
company, a question. The distance is measured on the same prompts, against computing all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.batch import Run
from models.drawing import Logits
from models.engine import LlamaEngine
from models.engine_settings import EngineSettings, Reuse
from models.errors import ModelError
from models.jobs import Job
from models.protocols import Message, Prompt, PromptDocument, SamplingSettings
from models.scoring import log_softmax
from server.assembly import find_model
from server.config import load_settings

_WORDS = (
    "policy leave travel expense laptop security request manager approval weeks office claim "
    "budget receipt training contract holiday remote device account password access review team "
    "customer support invoice payment period notice health safety visitor parking meeting report "
    "document record data privacy incident change release schedule project quality supplier order "
    "delivery return warranty service agreement benefit pension salary bonus overtime shift rota"
).split()
_NUM_PASSAGES, _NUM_SHOWN, _NUM_PASSAGE_WORDS, _NUM_QUESTION_WORDS = 40, 4, 170, 12
_SYSTEM = Message("system", "Answer from the passages and cite them.")
_LINKS = (0, 8, 16, 32)


class _LogitsJob(Job):
    """Prefills a prompt for the logits behind it."""

    def __init__(self, prompt: Prompt) -> None:
        super().__init__(prompt.tokens, prompt.num_tokens)
        self.result: Future[Logits] = Future()

    def _next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]:
        return []

    def _absorb_prompt(self, logits: Logits) -> bool:
        self.result.set_result(logits.copy())
        return True

    def _absorb(self, run: Run, logits: Logits) -> bool:
        return True

    def cancel(self) -> None:
        self.result.cancel()

    def fail(self, error: ModelError) -> None:
        self.result.set_exception(error)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF; the one that Mynah serves by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv-type", choices=("f16", "f32", "q8_0"), default="f16")
    parser.add_argument("--repeats", type=int, default=7, help="prompts of which medians are made")
    parser.add_argument("--passage-words", type=int, default=_NUM_PASSAGE_WORDS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.model = path = find_model(load_settings(model=options.model))
    rng = random.Random(0)
    pool = [
        PromptDocument("", " ".join(rng.choices(_WORDS, k=options.passage_words)))
        for _ in range(_NUM_PASSAGES)
    ]
    rows = [_measure(pool, options, "exact")]
    reference = rows[0].pop("logits")
    for link_tokens in _LINKS:
        row = _measure(pool, options, "passages", link_tokens, reference)
        row.pop("logits")
        rows.append(row)
    if options.json:
        json.dump({"model": path.name, "threads": options.threads, "rows": rows}, sys.stdout)
        return
    print(f"{path.name}, {options.threads} threads, KV {options.kv_type}")
    names = list(rows[-1])
    print("  ".join(f"{name:>12}" for name in names))
    for row in rows:
        print("  ".join(f"{row.get(name, '-'):>12}" for name in names))


def _measure(
    pool: list[PromptDocument],
    options: argparse.Namespace,
    reuse: Reuse,
    link_tokens: int = 0,
    reference: list[Logits] | None = None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        settings = EngineSettings(
            path=options.model,
            num_threads=options.threads,
            kv_type=options.kv_type,
            num_kept_sequences=1,
            reuse=reuse,
            link_tokens=link_tokens,
            passage_folder=Path(scratch) / "kv",
        )
        engine = LlamaEngine(settings)
        try:
            prompts = _prompts(engine, pool, options.repeats)
            _first_token(engine, engine.prepare([_SYSTEM, Message("user", "ready?")]))
            cold = [_first_token(engine, prompt) for prompt in prompts[: options.repeats]]
            if reuse == "passages":
                for document in pool:
                    _first_token(engine, engine.prepare([_SYSTEM, _question(0)], [document]))
            new = prompts[options.repeats :]
            warm = [_first_token(engine, prompt) for prompt in new]
            engine.forget_prefixes()
            logits = [asyncio.run(compute_logits(engine, prompt)) for prompt in new]
            row = {
                "reuse": reuse,
                "link": link_tokens,
                "tokens": round(statistics.median(prompt.num_tokens for prompt in new)),
                "cold_ms": round(1000 * statistics.median(cold), 1),
                "warm_ms": round(1000 * statistics.median(warm), 1),
                "MB": round(engine.passage_stats.ram_bytes / 1e6, 1),
                "logits": logits,
            }
            if reference is not None:
                row |= _distances(logits, reference)
            return row
        finally:
            engine.close()


def _prompts(engine: LlamaEngine, pool: list[PromptDocument], repeats: int) -> list[Prompt]:
    """Twice `repeats` prompts, no two of the same passages."""
    prompts = []
    for number in range(2 * repeats):
        chosen = random.Random(number).sample(pool, _NUM_SHOWN)
        prompts.append(engine.prepare([_SYSTEM, _question(number)], chosen))
    return prompts


def _question(number: int) -> Message:
    words = random.Random(number).choices(_WORDS, k=_NUM_QUESTION_WORDS)
    return Message("user", f"Question: {' '.join(words)}")


def _first_token(engine: LlamaEngine, prompt: Prompt) -> float:
    started_s = time.perf_counter()
    sampling = SamplingSettings(max_tokens=1)
    for _ in engine.generate(prompt, sampling):
        break
    taken_s = time.perf_counter() - started_s
    while engine.load.num_running:
        time.sleep(0.001)
    return taken_s


async def compute_logits(engine: LlamaEngine, prompt: Prompt) -> npt.NDArray[np.float32]:
    """The logits behind a prompt, shape `(num_vocab,)`, its passages placed as the engine does."""
    job = _LogitsJob(prompt)
    engine._reuse.place(job, prompt)
    engine._submit(job)
    return await asyncio.wrap_future(job.result)


def _distances(logits: list[Logits], reference: list[Logits]) -> dict[str, Any]:
    cosines, divergences, same = [], [], []
    for one, other in zip(logits, reference, strict=True):
        cosines.append(float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
        ours, theirs = log_softmax(one[None])[0], log_softmax(other[None])[0]
        divergences.append(float((np.exp(theirs) * (theirs - ours)).sum()))
        same.append(int(one.argmax() == other.argmax()))
    return {
        "cosine": round(statistics.mean(cosines), 4),
        "KL": round(statistics.mean(divergences), 4),
        "same_first": f"{sum(same)}/{len(same)}",
    }


if __name__ == "__main__":
    main()
