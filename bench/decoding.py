"""Load time, prefill and decoding speed of a model, alone on the engine.

`python -m bench.decoding [--model PATH] [--threads N] [--repeats N] [--json]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from models.engine import LlamaEngine
from models.engine_settings import EngineSettings
from models.protocols import GenerationUsage, Message, PromptDocument, SamplingSettings
from server.assembly import find_model
from server.config import load_settings

# Ordinary prose of about 160 words, so that a prompt is as long as a grounded one.
_TEXT = " ".join(
    f"Rule {number} says that team {number} meets in room {number + 3} every second week."
    for number in range(12)
)


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF; the one that Mynah serves by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=96, help="tokens to decode")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = find_model(load_settings(model=options.model))
    loads_s: list[float] = []
    prefill: list[float] = []
    decode: list[float] = []
    # The first round warms the file cache and is not counted.
    for round_ in range(options.repeats + 1):
        started_s = time.perf_counter()
        engine = LlamaEngine(EngineSettings(path=path, num_threads=options.threads, num_slots=1))
        load_s = time.perf_counter() - started_s
        usage = _generate(engine, f"Question {round_}: where does team 7 meet?", options.tokens)
        engine.close()
        if round_:
            loads_s.append(load_s)
            prefill.append(1000 * usage.num_prompt_tokens / usage.prefill_ms)
            decode.append(1000 * usage.num_completion_tokens / usage.decode_ms)
    figures = {
        "model": path.name,
        "size_mb": round(path.stat().st_size / 1e6, 1),
        "threads": options.threads,
        "load_ms": round(1000 * statistics.median(loads_s)),
        "prefill_tokens_per_s": round(statistics.median(prefill)),
        "decode_tokens_per_s": round(statistics.median(decode)),
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:22}{value:>24}")


def _generate(engine: LlamaEngine, question: str, num_tokens: int) -> GenerationUsage:
    documents = [PromptDocument(f"rules-{i}.md", f"{i}. {_TEXT}") for i in range(4)]
    prompt = engine.prepare([Message("user", question)], documents)
    # Random sampling that may not end the turn: the same number of tokens for every model.
    end = int(engine.info.metadata["tokenizer.ggml.eos_token_id"])
    sampling = SamplingSettings(
        temperature=1.0, seed=1, max_tokens=num_tokens, logit_bias={end: -100.0}
    )
    deltas = list(engine.generate(prompt, sampling))
    usage = deltas[-1].usage
    assert usage is not None
    return usage


if __name__ == "__main__":
    main()
