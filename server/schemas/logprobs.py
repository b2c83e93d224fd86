"""Log-probabilities as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Sequence

from models.protocols import TokenChance, TokenLogprob


def to_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object]:
    """The `logprobs` object of a choice."""
    return {
        "content": [
            {**_to_chance(token), "top_logprobs": [_to_chance(other) for other in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def _to_chance(token: TokenChance | TokenLogprob) -> dict[str, object]:
    """A token with its bytes; one that writes nothing has a name and no bytes."""
    return {
        "token": _to_text(token.piece) if token.piece else token.name,
        "logprob": token.logprob,
        "bytes": list(token.piece) or None,
    }


def _to_text(piece: bytes) -> str:
    """The text of a token; part of a character as its bytes, the way OpenAI shows it."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
