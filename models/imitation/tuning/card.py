"""The model card of an export: what the model is, what it was made from, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.imitation.tuning.parity import GREEDY_BAR, NUM_GREEDY_TOKENS, Parity
from models.imitation.tuning.perplexity import Perplexity
from models.registry_entries import is_non_commercial


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One GGUF: `num_fallbacks` tensors took a larger type than `kind`; `entry` as registered."""

    kind: str
    file: str
    size_bytes: int
    sha256: str
    perplexity: Perplexity
    num_fallbacks: int = 0
    entry: str | None = None


def change_of(file: ExportedFile, reference: Perplexity) -> float:
    """Perplexity relative to f16's, minus one."""
    return file.perplexity.value / reference.value - 1.0


def base_name(record: Mapping[str, Any]) -> str:
    """What the run started from, for people."""
    path = record["base"]["path"]
    return "scratch" if path is None else str(path).replace("\\", "/").rstrip("/").split("/")[-1]


def write_card(
    name: str,
    record: Mapping[str, Any],
    files: Sequence[ExportedFile],
    parity: Parity,
    reference: Perplexity,
) -> str:
    """Return the card as Markdown with the front matter that model hubs read."""
    licences = list(record["licences"])
    settings, result = record["settings"], record["result"]
    front = [
        "---",
        f"base_model: {base_name(record)}",
        f"license: {licences[0] if len(licences) == 1 else 'other'}",
        "library_name: gguf",
        "---",
    ]
    method = (
        f"LoRA, rank {settings['rank']}, alpha {settings['alpha']}"
        if settings["method"] == "lora"
        else "all weights"
    )
    held_out = result["held_out_loss"]
    facts = [
        ("Base", f"{base_name(record)} ({record['base']['family']})"),
        ("Base, SHA-256", f"`{record['base']['sha256']}`"),
        ("Data", ", ".join(record["data"]["files"])),
        ("Data, SHA-256", f"`{record['data']['sha256']}`"),
        ("Conversations, answers", f"{record['counts']['conversations']}, {_answers(record)}"),
        ("Teachers", ", ".join(record["teachers"]) or "none: written by people"),
        ("Trained", f"{method}; {result['num_trained_parameters']:,} parameters"),
        ("Steps, seed", f"{result['num_steps']}, {record['seed']}"),
        ("Loss at the end", f"{result['loss']:.4f} nats per answer token"),
        ("Loss held out", "not measured" if held_out is None else f"{held_out:.4f}"),
        ("Chat template, SHA-256", f"`{record['template']['sha256']}`"),
        ("Block attention over passages", "yes" if settings["block_attention"] else "no"),
    ]
    lines = [*front, "", f"# {name}", "", _licence_line(licences), "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts]
    lines += [
        "",
        "## Files",
        "",
        "| type | file | bytes | perplexity | against f16 | SHA-256 |",
        "|---|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {f.kind} | {f.file} | {f.size_bytes:,} | {f.perplexity.value:.4f} |"
        f" {change_of(f, reference):+.2%} | `{f.sha256}` |"
        for f in files
    ]
    lines += [
        "",
        f"Perplexity of f16: {reference.value:.4f}, over {reference.num_tokens} tokens that the"
        " model was to expect.",
    ]
    fallen = [f for f in files if f.num_fallbacks]
    lines += [
        f"In {f.kind}, {f.num_fallbacks} tensors have rows that the type's blocks do not divide and"
        " took a larger type."
        for f in fallen
    ]
    lines += [
        "",
        "## Parity of f16 with the trained checkpoint",
        "",
        f"- {parity.num_equal_strings} of {parity.num_strings} strings have the same token ids.",
        f"- {parity.num_equal_prompts} of {parity.num_prompts} prompts have the same first"
        f" {NUM_GREEDY_TOKENS} tokens of greedy text (bar: {GREEDY_BAR:.0%}).",
        "",
        "## Limits",
        "",
        "A model that imitates a teacher picks up how the teacher writes, not what it knows. Give"
        " it the facts as passages, and measure it (`mynah tune report`) before it is used.",
        "",
    ]
    return "\n".join(lines)


def _answers(record: Mapping[str, Any]) -> int:
    return int(record["counts"].get("turns", 0))


def _licence_line(licences: Sequence[str]) -> str:
    if not licences:
        return "The data and the base name no licence."
    text = f"Licences of data and base: {'; '.join(licences)}."
    if is_non_commercial(licences):
        text += " **Non-commercial: one of them forbids commercial use of this model.**"
    return text
