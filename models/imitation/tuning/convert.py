"""A Hugging Face checkpoint as a GGUF in 16-bit floats, for llama.cpp.

Formats: github.com/ggml-org/ggml, docs/gguf.md. Families: Llama (SmolLM too), Mistral and Qwen2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.imitation.errors import CheckpointUnsupported, ExportFailed
from models.imitation.tuning.block_attention import KEY as BLOCK_ATTENTION
from models.imitation.tuning.checkpoint import FAMILIES, Checkpoint
from models.imitation.tuning.gguf_tokenizer import CONVERTER, read_tokenizer
from models.imitation.tuning.libraries import prepare_libraries
from models.imitation.tuning.vocabulary import CheckpointVocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_F16 = 65504.0
# llama.cpp's own graph for Llama applies them by a tensor of factors; Qwen2's has none.
_SCALED_ROPE = ("llama3", "linear")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the file says about itself besides weights and tokenizer."""

    name: str
    template: str
    end_id: int
    licences: Sequence[str] = ()
    has_block_attention: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


def check_family(checkpoint: Checkpoint) -> str:
    """Return llama.cpp's architecture. Raises `CheckpointUnsupported` for what is not converted."""
    config, family = checkpoint.config, checkpoint.family
    arch = FAMILIES.get(family)
    problem = None
    rope = _rope(config)
    if arch is None:
        problem = f"of the family {family!r}; {', '.join(FAMILIES)} (and SmolLM) are"
    elif config.get("hidden_act", "silu") != "silu":
        problem = f"with the activation {config['hidden_act']!r}; silu is"
    elif config.get("use_sliding_window") is True:
        problem = "with sliding windows in some of its layers; full attention is"
    elif rope["rope_type"] not in ("default", *(_SCALED_ROPE if arch == "llama" else ())):
        problem = f"with scaled RoPE of type {rope['rope_type']!r}; plain RoPE is"
    elif float(rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1) != 1:
        problem = "with RoPE on a part of each head; RoPE on all of it is"
    if arch is None or problem is not None:
        raise CheckpointUnsupported(
            f"{checkpoint.folder} holds a checkpoint {problem} converted here; convert this folder"
            f" with {CONVERTER}, then add the file with `mynah models add`.",
            param="base",
        )
    return arch


def convert(model: Any, checkpoint: Checkpoint, target: Path, facts: ModelFacts) -> None:
    """Write `model`, loaded from `checkpoint`, to `target` as f16, aside and then renamed.

    Vectors stay float32. Raises `CheckpointUnsupported`, and `ExportFailed` for weights that 16
    bits cannot hold.
    """
    arch = check_family(checkpoint)
    prepare_libraries("gguf")
    import gguf

    aside = target.with_name(target.name + ".part")
    writer = gguf.GGUFWriter(str(aside), arch, use_temp_file=True)
    try:
        _add_facts(writer, checkpoint, facts)
        _add_sizes(writer, model.config, checkpoint)
        _add_vocabulary(writer, model, checkpoint, facts)
        for name, array in tensors(model, arch):
            writer.add_tensor(name, array if array.ndim == 1 else _to_f16(name, array))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        aside.replace(target)
    finally:
        writer.close()
        if writer.temp_file is not None:
            writer.temp_file.close()
        aside.unlink(missing_ok=True)


def _to_f16(name: str, array: NDArray[np.float32]) -> NDArray[np.float16]:
    peak = float(np.abs(array).max(initial=0.0))
    if not peak <= _MAX_F16:
        raise ExportFailed(f"{name} holds {peak:g}, which 16-bit floats cannot; train again.")
    return array.astype(np.float16)


def tensors(model: Any, arch: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield GGUF names and float32 arrays.

    llama.cpp turns neighbouring dimensions of a Llama head together, Hugging Face those half a head
    apart: rows of queries and keys change places. A tied output matrix is left out.
    """
    import gguf

    config = model.config
    architectures = {name: value for value, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(architectures[arch], config.num_hidden_layers)
    if arch == "llama" and (factors := rope_factors(model)) is not None:
        yield "rope_freqs.weight", factors
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise CheckpointUnsupported(f"the tensor {name} has no place in a GGUF of {arch}.")
        array = value.detach().cpu().float().numpy()
        if arch == "llama" and ".q_proj." in name:
            array = interleave(array, config.num_attention_heads)
        elif arch == "llama" and ".k_proj." in name:
            array = interleave(array, config.num_key_value_heads)
        yield found, np.ascontiguousarray(array)


def interleave(array: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Return rows `[heads * width, ...]` with those half a head apart put next to each other."""
    halves = array.reshape(num_heads, 2, array.shape[0] // num_heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def rope_factors(model: Any) -> NDArray[np.float32] | None:
    """What each frequency is divided by, `[head_width / 2]`; None for plain RoPE."""
    rotary = model.model.rotary_emb
    if rotary.rope_type == "default":
        return None
    plain, _ = rotary.compute_default_rope_parameters(model.config)
    factors: NDArray[np.float32] = (plain.cpu() / rotary.original_inv_freq.cpu()).float().numpy()
    return factors


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    return {**found, "rope_type": found.get("rope_type", found.get("type", "default"))}


def _add_facts(writer: Any, checkpoint: Checkpoint, facts: ModelFacts) -> None:
    import gguf

    writer.add_type("model")
    writer.add_name(facts.name)
    if facts.licences:
        writer.add_license(facts.licences[0] if len(facts.licences) == 1 else "other")
        writer.add_string("mynah.licences", "; ".join(facts.licences))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_bool(BLOCK_ATTENTION, facts.has_block_attention)
    for key, value in facts.extra.items():
        writer.add_string(key, value)


def _add_sizes(writer: Any, config: Any, checkpoint: Checkpoint) -> None:
    head_width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    writer.add_context_length(checkpoint.max_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_width)
    writer.add_value_length(head_width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_rope_dimension_count(head_width)
    writer.add_vocab_size(config.vocab_size)


def _add_vocabulary(writer: Any, model: Any, checkpoint: Checkpoint, facts: ModelFacts) -> None:
    num_rows = int(model.get_input_embeddings().weight.shape[0])
    read_tokenizer(checkpoint.tokenizer_json, num_rows, checkpoint.folder).write(writer)
    vocabulary = CheckpointVocabulary(checkpoint)
    if vocabulary.bos_id >= 0:
        writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    if facts.end_id != vocabulary.eos_id:
        # The engine must stop where training ended the turns.
        writer.add_eot_token_id(facts.end_id)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_chat_template(facts.template)
