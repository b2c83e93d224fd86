"""Mynah's engine and server beside llama.cpp's: medians, paired ratios, bars and verdicts.

    python -m bench.serving --model rand60 --models-dir DIR --llama-server PATH/TO/llama-server
    python -m bench.serving --model rand1b --load warm --clients 1 --repeats 2 ...
    python -m bench.serving --model bundled --load drafting --load jumps

Loads against other servers: cold, warm (1 and 8 clients), chat, quotes. Loads of the engine alone:
drafting, jumps, stall, equal. `rand60` and `rand1b` are made with `--vocabulary` where they are not
there yet (`bench/random_gguf.py`); how to build and start the peers: `bench/serving/servers.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from bench.serving.engines import in_turn, measure_drafts, measure_equal, measure_stall
from bench.serving.grounded import measure_answers
from bench.serving.loads import LoadMaker, Size
from bench.serving.servers import (
    LLAMA_CPP_SERVER,
    LLAMA_SERVER,
    MYNAH,
    Server,
    Setup,
    serve_llama_cpp,
    serve_llama_server,
    serve_mynah,
    stop_servers_when_told,
)
from bench.serving.table import Measured, Row, compare, pair, render
from models.gguf import read_header
from models.registry_entries import find_bundled
from server.config import Settings

_SERVED = {"cold": (1, 8), "warm": (1, 8), "chat": (1,), "quotes": (1,)}
_ALONE = ("drafting", "jumps", "stall", "equal")
_NUM_EQUAL = (1, 4, 8)
_SHAPES = {"rand60": "60m", "rand1b": "1.1b"}


def main() -> None:
    """Measure what the command line names, and print it."""
    options = _parse()
    stop_servers_when_told()
    path = _find_model(options)
    rows: list[Row] = []
    loads = options.load or [*_SERVED, *_ALONE]
    if served := [load for load in loads if load in _SERVED]:
        rows += _measure_servers(options, path, served)
    for load in loads:
        if load in _ALONE:
            rows += _measure_alone(options, path, load)
    if options.json:
        print(
            json.dumps(
                {
                    "model": {"name": options.model, "size_bytes": path.stat().st_size},
                    "threads": options.threads,
                    "slots": options.slots,
                    "repeats": options.repeats,
                    "processors": os.cpu_count(),
                    "load_average": round(os.getloadavg()[0], 1),
                    "rows": [row.to_json() for row in rows],
                },
                indent=1,
            )
        )
    else:
        print(render(rows))
    sys.exit(any(row.verdict == "missed" for row in rows) if options.check else 0)


def _measure_servers(options: argparse.Namespace, path: Path, names: list[str]) -> list[Row]:
    header = read_header(path)
    end = int(header.metadata.get("tokenizer.ggml.eos_token_id", -1))
    size = Size(options.requests, options.pool, options.tokens, options.chats)
    maker = LoadMaker(size, [end] if end >= 0 else [])
    loads = [
        maker.make(name, clients)
        for name in names
        for clients in _SERVED[name]
        if options.clients is None or clients in options.clients
    ]
    found: dict[tuple[str, int], Measured] = {}
    with _running_servers(options, path) as servers:
        for repeat, load in product(range(options.repeats), loads):
            measured = found.setdefault((load.name, load.num_clients), {})
            for name, server in in_turn(servers, repeat):
                figures = load.measure(server, repeat)
                for figure, value in figures.items():
                    measured.setdefault(name, {}).setdefault(figure, []).append(value)
                shown = "  ".join(f"{figure} {value:.3f}" for figure, value in figures.items())
                _tell(options, f"{repeat + 1}: {load.name} x{load.num_clients} {name}  {shown}")
    return [
        row
        for (name, clients), measured in found.items()
        for row in compare(options.model, name, clients, measured, size=path.stat().st_size)
    ]


@contextmanager
def _running_servers(options: argparse.Namespace, path: Path) -> Iterator[dict[str, Server]]:
    setup = Setup(path, options.threads, options.slots, options.context_tokens)
    settings = {} if "kv_reuse" not in Settings.model_fields else {"kv_reuse": options.reuse}
    settings |= dict(pair.split("=", 1) for pair in options.setting)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serve_mynah(setup, has_documents=options.documents, settings=settings)
            )
        ]
        peers = options.peer or [LLAMA_SERVER, LLAMA_CPP_SERVER]
        if LLAMA_SERVER in peers and options.llama_server is not None:
            servers.append(stack.enter_context(serve_llama_server(setup, options.llama_server)))
        if LLAMA_CPP_SERVER in peers:
            servers.append(stack.enter_context(serve_llama_cpp(setup, options.peer_path)))
        yield {server.name: server for server in servers}


def _measure_alone(options: argparse.Namespace, path: Path, load: str) -> list[Row]:
    _tell(options, f"{load} ...")
    model, threads, repeats = options.model, options.threads, options.repeats
    if load == "drafting" and path != find_bundled():
        rates = measure_drafts(path, threads, repeats)
        return [pair((model, "copying", 1), "tokens_per_s", "no drafts", *_both(rates), bar=1.5)]
    if load in ("drafting", "jumps"):
        is_quote = load == "jumps"
        found = measure_answers(
            path, threads, repeats, options.questions, "quote" if is_quote else "answer"
        )
        figures = {"answer_s": 3.0, "decode_s": None}
        if not is_quote:
            figures = {"tokens_per_s": 1.5, "answer_s": None}
        return [
            pair(
                (model, "quote mode" if is_quote else "answer mode", 1),
                figure,
                "no jumps" if is_quote else "no drafts",
                found["with"][figure],
                found["without"][figure],
                bar=bar,
            )
            for figure, bar in figures.items()
        ]
    if load == "stall":
        stalls = measure_stall(path, threads, repeats)
        allowed = [1.5 * chunk_s for chunk_s in stalls["chunk_s"]]
        return [
            pair((model, load, 1), "stall_s", "1.5 chunks", stalls["stall_s"], allowed, bar=1.0)
        ]
    rows = []
    for num_at_once in _NUM_EQUAL:
        rates = measure_equal(path, threads, repeats, num_at_once)
        rows.append(
            pair(
                (model, load, num_at_once),
                "tokens_per_s",
                "bare llama_decode",
                rates["engine"],
                rates["bare"],
                bar=0.9,
            )
        )
    return rows


def _both(rates: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    return rates["with"], rates["without"]


def _find_model(options: argparse.Namespace) -> Path:
    if options.model == "bundled":
        bundled = find_bundled()
        if bundled is None:
            raise SystemExit("no model comes with this installation")
        return bundled
    if options.model not in _SHAPES:
        return Path(options.model)
    path: Path = options.models_dir / f"{options.model}.gguf"
    if not path.is_file():
        if options.vocabulary is None:
            raise SystemExit(f"there is no {path}; --vocabulary names what it is made from")
        from bench.random_gguf import SHAPES, write_random_gguf

        options.models_dir.mkdir(parents=True, exist_ok=True)
        write_random_gguf(path, options.vocabulary, SHAPES[_SHAPES[options.model]])
    return path


def _tell(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        print(line, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="rand60", help="rand60, rand1b, bundled, or a GGUF's path")
    add("--models-dir", type=Path, default=Path(), help="where rand60.gguf and rand1b.gguf lie")
    add("--vocabulary", type=Path, help="ggml-vocab-llama-spm.gguf, to make them of")
    add("--load", action="append", choices=(*_SERVED, *_ALONE), help="again for more; all")
    add("--clients", action="append", type=int, choices=(1, 8), help="again for more; both")
    add("--llama-server", type=Path, help="the built program; without it that peer is left out")
    add("--peer", action="append", choices=(LLAMA_SERVER, LLAMA_CPP_SERVER))
    add("--peer-path", action="append", default=[], help="for llama_cpp.server's own packages")
    add(
        "--documents",
        action=argparse.BooleanOptionalAction,
        help=f"whether {MYNAH} gets passages as `documents`, by default if it can",
    )
    add("--reuse", default="passages", help=f"what {MYNAH} reuses of its KV cache")
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="of mynah serve")
    add("--threads", type=int, default=2)
    add("--slots", type=int, default=8)
    add("--context-tokens", type=int, default=2048, help="of one request")
    add("--repeats", type=int, default=5)
    add("--requests", type=int, default=2, help="grounded requests of each client and repeat")
    add("--pool", type=int, default=40, help="passages of the warm load")
    add("--tokens", type=int, default=48, help="tokens of an answer")
    add("--chats", type=int, default=1)
    add("--questions", type=int, default=12, help="of the handbook, for drafting and jumps")
    add("--json", action="store_true", help="print JSON")
    add("--check", action="store_true", help="exit code 1 where a bar is missed")
    add("--quiet", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
