"""DOCX: through mammoth to HTML, and from there as any page."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace

from ingest.errors import FileDamaged, FileEmpty, FileTooLarge, NoText
from ingest.readers.base import ReadDocument, clean_title
from ingest.readers.html import read_html

MAX_UNPACKED_BYTES = 200_000_000
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class DocxReader:
    """Reads DOCX; headings, lists and tables are kept, pictures are not."""

    media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document as Markdown. Raises `FileDamaged`, `FileTooLarge` or `NoText`."""
        if content.startswith(_OLE_MAGIC):
            raise FileDamaged(
                f"{name} is protected by a password or in the old Word format; save it as a plain"
                " .docx."
            )
        title = _inspect(content, name)
        import mammoth

        try:
            result = mammoth.convert_to_html(
                io.BytesIO(content), convert_image=mammoth.images.img_element(lambda _: {})
            )
        except Exception as error:  # mammoth lets XML and key errors of broken parts through
            raise FileDamaged(f"{name} is a damaged DOCX file: {_one_line(error)}.") from error
        try:
            document = read_html(result.value, name)
        except FileEmpty as error:
            raise NoText(f"{name} holds no text, only pictures or nothing at all.") from error
        return replace(document, media_type=self.media_type, title=title or document.title)


def _inspect(content: bytes, name: str) -> str | None:
    """Title from the core properties, once the archive is known to be whole and not a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            num_bytes = sum(entry.file_size for entry in archive.infolist())
            if num_bytes > MAX_UNPACKED_BYTES:
                raise FileTooLarge(
                    f"{name} unpacks to {num_bytes / 1e6:,.0f} MB; at most"
                    f" {MAX_UNPACKED_BYTES / 1e6:,.0f} MB are read."
                )
            names = set(archive.namelist())
            if "[Content_Types].xml" not in names or not any(n.startswith("word/") for n in names):
                raise FileDamaged(f"{name} is a zip archive, but not a DOCX file.")
            core = archive.read("docProps/core.xml") if "docProps/core.xml" in names else b""
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, ValueError) as error:
        raise FileDamaged(f"{name} is not a whole DOCX file: {_one_line(error)}.") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted or oddly packed members
        raise FileDamaged(f"{name} is packed in a way that is not read: {_one_line(error)}.") from (
            error
        )
    match = re.search(r"<dc:title>(.*?)</dc:title>", core.decode("utf-8", "replace"), re.DOTALL)
    if match is None:
        return None
    from html import unescape

    return clean_title(unescape(match[1]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
