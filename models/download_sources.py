"""What `mynah models pull` is told, as the address of one file: a URL, or a Hugging Face repo."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from models.imitation.errors import DownloadFailed
from models.web import check_status, open_client, open_reply, shown

if TYPE_CHECKING:
    import httpx

_REPO = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?::(.+))?")
_NUM_SHOWN_FILES = 12
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to download. `text` names it to people, without secrets."""

    url: str
    text: str
    filename: str
    licences: tuple[str, ...] = ()
    token: str | None = None


def find_source(text: str) -> Source:
    """The file that REPO, REPO:FILE or an http(s) address names.

    For a repo its card is asked for, at the endpoint that Hugging Face's libraries use
    (`HF_ENDPOINT`), with the token that they would send. Raises `DownloadFailed`.
    """
    if "://" in text:
        path = text.partition("://")[2].partition("?")[0].partition("#")[0]
        filename = unquote(path.rpartition("/")[2])
        return Source(text, shown(text), _require_whole(filename))
    found = _REPO.fullmatch(text)
    if found is None:
        raise DownloadFailed(
            f"{text!r} is neither OWNER/REPO[:FILE] nor an http(s) address; for a file that is"
            " here use `mynah models add`.",
            param="source",
        )
    return _find_in_hub(found[1], found[2])


def _find_in_hub(repo: str, file: str | None) -> Source:
    # Both only read the environment and files; nothing is sent.
    from huggingface_hub import get_token
    from huggingface_hub.constants import ENDPOINT

    token = get_token()
    card = _read_card(f"{ENDPOINT}/api/models/{repo}", token)
    siblings = card.get("siblings")
    names = [str(row.get("rfilename")) for row in siblings or () if isinstance(row, dict)]
    filename = _choose(repo, [name for name in names if name.endswith(".gguf")], file)
    return Source(
        url=f"{ENDPOINT}/{repo}/resolve/main/{quote(filename)}",
        text=f"{repo}:{filename}",
        filename=_require_whole(filename.rpartition("/")[2]),
        licences=_read_licences(card.get("cardData")),
        token=token,
    )


def _read_card(url: str, token: str | None) -> Mapping[str, Any]:
    with open_client() as client:
        try:
            with open_reply(client, url, {}, token) as reply:
                check_status(reply)
                card = json.loads(reply.response.read())
        except ValueError as error:
            raise DownloadFailed(f"{shown(url)} does not answer with JSON: {error}.") from error
        except _transport_errors() as error:
            raise DownloadFailed(
                f"cannot reach {shown(url)}: {error}; check the network, or HF_ENDPOINT."
            ) from error
    if not isinstance(card, dict):
        raise DownloadFailed(f"{shown(url)} does not describe a model.")
    return card


def _transport_errors() -> type[httpx.HTTPError]:
    import httpx

    return httpx.HTTPError


def _choose(repo: str, names: Sequence[str], file: str | None) -> str:
    listed = ", ".join(names[:_NUM_SHOWN_FILES]) + (", ..." if names[_NUM_SHOWN_FILES:] else "")
    if not names:
        raise DownloadFailed(f"{repo} has no GGUF file; look for a repo of its GGUF version.")
    if file is None:
        if len(names) == 1:
            return names[0]
        raise DownloadFailed(
            f"{repo} has {len(names)} GGUF files; name one as {repo}:FILE: {listed}.",
            param="source",
        )
    if file not in names:
        raise DownloadFailed(f"{repo} has no file {file}; it has {listed}.", param="source")
    return file


def _require_whole(filename: str) -> str:
    if _PART.search(filename):
        raise DownloadFailed(
            f"{filename} is one part of a larger model; choose one that is a single file."
        )
    return filename


def _read_licences(card: object) -> tuple[str, ...]:
    """The licence that the card names; with `other`, the one it describes."""
    if not isinstance(card, dict):
        return ()
    values = card.get("license")
    texts = [str(value) for value in (values if isinstance(values, list) else [values]) if value]
    name = card.get("license_name")
    return tuple(t for t in [*texts, *([str(name)] if name else [])] if t.casefold() != "other")
