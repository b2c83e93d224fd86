"""A finished run as registered GGUF files: merged, converted, compared, quantized, measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.imitation.conversations import Conversation, read_conversations
from models.imitation.errors import ExportFailed, TrainingDataInvalid
from models.imitation.tuning.card import ExportedFile, base_name, change_of, write_card
from models.imitation.tuning.checkpoint import Checkpoint, choose_device
from models.imitation.tuning.convert import ModelFacts, check_family, convert
from models.imitation.tuning.folder import RunFolder
from models.imitation.tuning.libraries import prepare_libraries
from models.imitation.tuning.masking import Dialogue, to_dialogue
from models.imitation.tuning.merge import merge
from models.imitation.tuning.parity import (
    NUM_GREEDY_TOKENS,
    NUM_STRINGS,
    Parity,
    compare_greedy,
    compare_strings,
    make_prompts,
)
from models.imitation.tuning.perplexity import (
    Expectation,
    Perplexity,
    expect_answers,
    expect_texts,
    measure,
)
from models.imitation.tuning.scratch import texts_of
from models.imitation.tuning.strings import parity_strings
from models.imitation.tuning.templates import make_tokenizer

if TYPE_CHECKING:
    from models.engine import LlamaEngine
    from models.registry import Registry

Note = Callable[[str], None]
_MAX_CTX = 8192


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to make of the run in `run`.

    `out`: where the files go, by default `RUN/export`. `registry`: where they are registered, as
    `NAME-TYPE`; None for not at all. `texts`: files of plain text to measure perplexity on, by
    default the run's samples. `num_threads` 0 takes every core.
    """

    run: Path
    name: str
    kinds: tuple[str, ...]
    out: Path | None = None
    registry: Registry | None = None
    texts: tuple[Path, ...] = ()
    device: str = "auto"
    num_threads: int = 0


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What came of it. `reference` is the perplexity of f16."""

    name: str
    folder: Path
    files: tuple[ExportedFile, ...]
    parity: Parity
    reference: Perplexity
    licences: tuple[str, ...]
    is_non_commercial: bool

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        row = {**asdict(self), "folder": str(self.folder)}
        row["files"] = [
            {**asdict(file), "change": change_of(file, self.reference)} for file in self.files
        ]
        return row


def export(plan: ExportPlan, note: Note = lambda text: None) -> ExportReport:
    """Export a run; `note` is told each step.

    Raises `RunDamaged`, `CheckpointUnsupported`, `ExportFailed` (below the bar of parity nothing is
    registered), `ModelUnknown` for a name that is taken, and `ExtraMissing`.
    """
    from models.quantizing import KINDS, quantize
    from models.registry_entries import is_non_commercial
    from models.registry_folder import hash_file

    unknown = [kind for kind in plan.kinds if kind not in KINDS]
    if unknown:
        raise ExportFailed(
            f"there is no type {unknown[0]!r}; use some of {', '.join(KINDS)}.", param="type"
        )
    if plan.registry is not None:
        for kind in plan.kinds:
            plan.registry.check_free(_name_of(plan, kind))
    prepare_libraries("torch", "transformers", "tokenizers", "peft", "gguf")
    folder = RunFolder(plan.run)
    record = folder.read()
    out = plan.out or folder.exports
    out.mkdir(parents=True, exist_ok=True)
    f16 = out / f"{_name_of(plan, 'f16')}.gguf"
    samples = _read_samples(folder.samples)

    note("merging")
    model, checkpoint = merge(folder, record, device=choose_device(plan.device))
    check_family(checkpoint)
    note("converting to f16")
    convert(model, checkpoint, f16, _facts(plan.name, checkpoint, record))
    note("comparing with the checkpoint")
    parity = _compare(model, checkpoint, f16, samples, plan.num_threads)
    parity.check()
    del model

    expected = _expected(checkpoint, samples, plan.texts)
    note("measuring f16")
    reference = _measure(f16, expected, plan.num_threads)
    if not reference.num_tokens:
        raise ExportFailed(
            f"none of the {len(expected)} texts to measure perplexity on fits the model's context;"
            " give others with --texts."
        )
    files = []
    for kind in plan.kinds:
        file = out / f"{_name_of(plan, kind)}.gguf"
        num_fallbacks, measured = 0, reference
        if kind != "f16":
            note(f"quantizing to {kind}")
            num_fallbacks = quantize(f16, file, kind, num_threads=plan.num_threads).num_fallbacks
            note(f"measuring {kind}")
            measured = _measure(file, expected, plan.num_threads)
        files.append(
            ExportedFile(
                kind, file.name, file.stat().st_size, hash_file(file), measured, num_fallbacks
            )
        )
    if "f16" not in plan.kinds:
        f16.unlink()
    card = write_card(plan.name, record, files, parity, reference)
    (out / "README.md").write_text(card, encoding="utf-8")
    if plan.registry is not None:
        note("registering")
        files = [
            _register(
                plan,
                plan.registry,
                file,
                record=record,
                out=out,
                parity=parity,
                reference=reference,
            )
            for file in files
        ]
    licences = tuple(record["licences"])
    return ExportReport(
        plan.name, out, tuple(files), parity, reference, licences, is_non_commercial(licences)
    )


def _name_of(plan: ExportPlan, kind: str) -> str:
    return f"{plan.name}-{kind}"


def _read_samples(path: Path) -> list[Conversation]:
    try:
        return list(read_conversations(path))
    except OSError as error:
        raise ExportFailed(
            f"{path} cannot be read ({error.strerror}); an export is measured on it."
        ) from None


def _facts(name: str, checkpoint: Checkpoint, record: Mapping[str, Any]) -> ModelFacts:
    return ModelFacts(
        name=name,
        template=checkpoint.template or "",
        end_id=int(record["template"]["end_ids"][-1]),
        licences=record["licences"],
        has_block_attention=bool(record["settings"]["block_attention"]),
        extra={
            "mynah.base": base_name(record),
            "mynah.base_sha256": record["base"]["sha256"],
            "mynah.data_sha256": record["data"]["sha256"],
        },
    )


def _open(path: Path, num_threads: int) -> LlamaEngine:
    from models.engine import open_engine
    from models.gguf import read_header

    trained = read_header(path).number("context_length") or _MAX_CTX
    # In float32 and alone in its step, a request is computed as exactly as can be.
    return open_engine(
        path,
        num_ctx=min(trained, _MAX_CTX),
        num_slots=1,
        num_spare_sequences=1,
        kv_type="f32",
        flash_attention=False,
        num_threads=num_threads,
    )


def _compare(
    model: Any, checkpoint: Checkpoint, f16: Path, samples: Sequence[Conversation], num_threads: int
) -> Parity:
    strings = parity_strings(NUM_STRINGS, texts_of(samples))
    num_equal, difference, eog_ids = compare_strings(checkpoint, f16, strings)
    tokenizer = make_tokenizer(checkpoint, checkpoint.template or "")
    engine = _open(f16, num_threads)
    try:
        fillers = [s for s in random.Random(1).sample(strings, len(strings)) if len(s) < 200]
        room = engine.info.num_ctx - NUM_GREEDY_TOKENS
        dialogues = [to_dialogue(c) for c in samples]
        prompts = make_prompts(tokenizer, dialogues, fillers, room)
        num_same, other = compare_greedy(model, engine, tokenizer, prompts, eog_ids)
    finally:
        engine.close()
    return Parity(len(strings), num_equal, len(prompts), num_same, difference or other)


def _expected(
    checkpoint: Checkpoint, samples: Sequence[Conversation], files: Sequence[Path]
) -> list[Expectation]:
    tokenizer = make_tokenizer(checkpoint, checkpoint.template or "")
    if not files:
        dialogues: list[Dialogue] = [to_dialogue(c) for c in samples]
        return expect_answers(tokenizer, dialogues)
    try:
        texts = [path.read_text(encoding="utf-8") for path in files]
    except (OSError, ValueError) as error:
        raise TrainingDataInvalid(f"a file of --texts cannot be read: {error}.") from None
    return expect_texts(tokenizer, texts)


def _measure(path: Path, expected: Sequence[Expectation], num_threads: int) -> Perplexity:
    engine = _open(path, num_threads)
    try:
        return measure(engine, expected)
    finally:
        engine.close()


def _register(
    plan: ExportPlan,
    registry: Registry,
    file: ExportedFile,
    *,
    record: Mapping[str, Any],
    out: Path,
    parity: Parity,
    reference: Perplexity,
) -> ExportedFile:
    entry = registry.add(
        out / file.file,
        _name_of(plan, file.kind),
        origin="tuned",
        # The gate asks for a comparison with whatever is named here.
        base=None if record["base"]["path"] is None else base_name(record),
        data_sha256=record["data"]["sha256"],
        template_sha256=record["template"]["sha256"],
        licences=record["licences"],
        details={
            "base_sha256": record["base"]["sha256"],
            "teachers": record["teachers"],
            "method": record["settings"]["method"],
            "block_attention": record["settings"]["block_attention"],
            "seed": record["seed"],
            "parity": asdict(parity),
            "perplexity": file.perplexity.value,
            "perplexity_change": change_of(file, reference),
        },
    )
    return replace(file, entry=entry.name)
