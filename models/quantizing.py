"""GGUF files in smaller number formats, made by llama.cpp."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models import llama
from models.gguf import read_header
from models.imitation.errors import ExportFailed

# Names and numbers of llama.cpp's `llama_ftype` (include/llama.h). Left out are the types that
# need an importance matrix or weights trained for three values: others become noise in them.
KINDS: Mapping[str, int] = MappingProxyType(
    {
        "f32": 0,
        "f16": 1,
        "bf16": 32,
        "q8_0": 7,
        "q6_k": 18,
        "q5_k_m": 17,
        "q5_k_s": 16,
        "q5_1": 9,
        "q5_0": 8,
        "q4_k_m": 15,
        "q4_k_s": 14,
        "q4_1": 3,
        "q4_0": 2,
        "iq4_nl": 25,
        "iq4_xs": 30,
        "q3_k_l": 13,
        "q3_k_m": 12,
        "q3_k_s": 11,
        "iq3_m": 27,
        "iq3_s": 26,
        "iq3_xs": 22,
        "iq3_xxs": 23,
        "q2_k": 10,
    }
)
_UNQUANTIZED = frozenset({"f32", "f16", "bf16"})
_TENSOR_LINE = re.compile(r"\[ *(\d+)/ *(\d+)\]")
_FALLBACK_LINE = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_FULL_BELOW_BYTES = 1 << 20

ShowTensor = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Quantization:
    """What was done.

    `num_fallbacks` of the `num_tensors` tensors have rows that are no multiple of the type's block
    (256 in most types) and took a larger type that llama.cpp chose. `is_requantized`: the source
    was quantized already, so that the errors of both add up.
    """

    kind: str
    num_tensors: int
    num_fallbacks: int
    is_requantized: bool
    size_bytes: int


def kind_of(file_type: object) -> str:
    """The name of a GGUF's `general.file_type`, `unknown` for one that is not in `KINDS`."""
    return next((kind for kind, number in KINDS.items() if number == file_type), "unknown")


def quantize(
    source: Path, target: Path, kind: str, *, num_threads: int = 0, show: ShowTensor | None = None
) -> Quantization:
    """Write the GGUF at `source` as `kind` to `target`, aside and then renamed.

    `num_threads` 0 takes every core. `show` gets the tensor at hand, from 1, and their number.
    Raises `ModelFileInvalid` for a source that is no whole GGUF, and `ExportFailed` for an unknown
    kind, a target that cannot be written and whatever llama.cpp refuses.
    """
    if kind not in KINDS:
        raise ExportFailed(
            f"there is no quantization type {kind!r}; use one of {', '.join(KINDS)}.", param="type"
        )
    header = read_header(source)
    if target.exists() and target.samefile(source):
        raise ExportFailed(f"{target} is the source itself; name another file.", param="target")
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        num_fallbacks = _run(source, aside, KINDS[kind], num_threads, show)
        _sync(aside)
        aside.replace(target)
    except OSError as error:
        raise ExportFailed(f"cannot write {target}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return Quantization(
        kind=kind,
        num_tensors=header.num_tensors,
        num_fallbacks=num_fallbacks,
        is_requantized=kind_of(header.metadata.get("general.file_type", 0)) not in _UNQUANTIZED,
        size_bytes=target.stat().st_size,
    )


def _run(source: Path, aside: Path, number: int, num_threads: int, show: ShowTensor | None) -> int:
    """Return how many tensors fell back to another type."""
    aside.touch()  # llama.cpp says nothing useful of a folder that cannot be written
    library = llama.library()
    params = library.llama_model_quantize_default_params()
    params.ftype = number
    params.nthread = num_threads
    params.allow_requantize = True
    num_fallbacks = 0
    failure: BaseException | None = None

    def hear(line: str) -> None:
        nonlocal num_fallbacks, failure
        if found := _FALLBACK_LINE.search(line):
            num_fallbacks = int(found[1])
        elif show is not None and failure is None and (found := _TENSOR_LINE.match(line)):
            try:
                show(int(found[1]), int(found[2]))
            except BaseException as error:  # nothing may be raised through C
                failure = error

    with llama.keep_errors() as errors, llama.listen(hear):
        code = library.llama_model_quantize(
            os.fsencode(source), os.fsencode(aside), ctypes.byref(params)
        )
    if failure is not None:
        raise failure
    if code:
        if shutil.disk_usage(aside.parent).free < _FULL_BELOW_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reason = errors[-1] if errors else f"llama.cpp gives the code {code}"
        raise ExportFailed(f"cannot quantize {source}: {reason.rstrip('.')}.", param="model")
    return num_fallbacks


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
