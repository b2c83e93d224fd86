"""The conversations that were written for this project: packs of passages with dialogues on them.

A pack is a Markdown file, so that people can read and mend it:

    # Organisation
    ## Passages
    ### p1: file.pdf > Heading
    text
    ## Conversations
    #### c1
    Q: question
    A: Answer. [p1]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.imitation.conversations import Conversation, SourcePassage, Turn
from models.imitation.errors import TrainingDataInvalid

SOURCE = "written for Mynah"
LICENSE = "Apache-2.0"
FOLDER = Path(__file__).parent / "data" / "conversations"

_PACK = re.compile(r"# (.+)\n+## Passages\n(.*?)\n## Conversations\n(.*)\Z", re.DOTALL)
_PASSAGE = re.compile(r"^### (p\d+): ([^\n]+)\n(.*?)(?=^### |\Z)", re.DOTALL | re.MULTILINE)
_DIALOGUE = re.compile(r"^#### c\d+\s*$", re.MULTILINE)
_SAID = re.compile(r"^(Q|A): ", re.MULTILINE)
CITATION = re.compile(r"\[(p\d+)\]")


def read_packs(folder: Path = FOLDER) -> Iterator[Conversation]:
    """Yield the conversations of every pack in `folder`, in order of file names."""
    for path in sorted(folder.glob("*.md")):
        yield from read_pack(path)


def read_pack(path: Path) -> list[Conversation]:
    """Return the conversations of one pack, each with all passages of the pack.

    Raises `TrainingDataInvalid` where the file breaks the form or cites a passage it lacks.
    """
    match = _PACK.match(path.read_text(encoding="utf-8"))
    if not match:
        raise TrainingDataInvalid(f"{path}: a pack has # Name, ## Passages and ## Conversations.")
    passages = tuple(
        SourcePassage(name, title.strip(), text.strip())
        for name, title, text in _PASSAGE.findall(match[2])
    )
    known = {passage.id for passage in passages}
    found = []
    for number, part in enumerate(_DIALOGUE.split(match[3])[1:], 1):
        pieces = _SAID.split(part.strip())
        said, texts = pieces[1::2], [piece.strip() for piece in pieces[2::2]]
        if pieces[0].strip() or not said or said != ["Q", "A"] * (len(said) // 2):
            raise TrainingDataInvalid(f"{path}, c{number}: Q: and A: must alternate.")
        turns = tuple(
            Turn("user" if who == "Q" else "assistant", text)
            for who, text in zip(said, texts, strict=True)
        )
        cited = {name for turn in turns for name in CITATION.findall(turn.content)}
        if not cited <= known:
            missing = ", ".join(sorted(cited - known))
            raise TrainingDataInvalid(f"{path}, c{number} cites {missing}, which is not there.")
        provenance = {"source": SOURCE, "license": LICENSE, "teacher": None}
        found.append(Conversation(f"{path.stem}-c{number}", turns, provenance, passages))
    return found
