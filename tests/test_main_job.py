"""The bundled model over the example handbook, asked by the official client over a port.

Each quote is looked up in the named file by another way than the reader that made it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mammoth
import openai
import pypdfium2
import pytest
from bs4 import BeautifulSoup

from examples.demo import wait_until_ready

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
HANDBOOK = ROOT / "examples" / "handbook"
MYNAH = str(Path(sys.executable).with_name("mynah"))
PDF_QUESTION = "How many weeks of leave at full pay does the second parent get after a birth?"
QUESTIONS = (
    PDF_QUESTION,
    "How much does a lost badge cost?",
    "What is the mileage rate for private cars?",
    "How long must purchase files be kept?",
    "Who signs orders above £18,000?",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environment = {
        **os.environ,
        "MYNAH_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "MYNAH_LOG_LEVEL": "warning",
    }
    subprocess.run([MYNAH, "ingest", str(HANDBOOK)], env=environment, check=True)
    server = subprocess.Popen(
        [MYNAH, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield wait_until_ready(server)
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0
        if server.stdout is not None:
            server.stdout.close()


def squeeze(text: str) -> str:
    return " ".join(text.replace("\u00ad", "").split())


def read_source(path: Path, page: int | None) -> str:
    """The file's text; of one page where the file has pages."""
    if path.suffix == ".pdf":
        with pypdfium2.PdfDocument(path) as pdf:
            return str(pdf[(page or 1) - 1].get_textpage().get_text_bounded())
    if path.suffix == ".docx":
        with path.open("rb") as file:
            return BeautifulSoup(mammoth.convert_to_html(file).value, "html.parser").get_text(" ")
    text = path.read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser").get_text(" ") if path.suffix == ".html" else text


def check_grounding(text: str, grounding: dict[str, Any]) -> None:
    # A refusal would have nothing to check: every question put here is answered in the handbook.
    assert grounding["decision"] == "answered"
    assert grounding["citations"]
    for citation in grounding["citations"]:
        source = squeeze(read_source(HANDBOOK / citation["path"], citation["page"]))
        # Cells of a table have bars between them in the quote only.
        quote = squeeze(citation["quote"])
        assert "".join(quote.replace("|", "").split()) in "".join(
            source.replace("|", "").split()
        ), citation
        assert quote.strip("| ") in squeeze(text)
        assert f"[{citation['index']}]" in text


@pytest.mark.parametrize("question", QUESTIONS)
def test_quotes_stand_verbatim_in_the_named_file(address: str, question: str) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        reply = client.chat.completions.create(
            model="mynah", messages=[{"role": "user", "content": question}]
        )
    message = reply.choices[0].message
    assert message.content
    check_grounding(message.content, (reply.model_extra or {})["grounding"])
    for annotation in message.annotations or []:
        cited = annotation.url_citation
        assert message.content[cited.start_index : cited.end_index].strip()


def test_the_page_of_a_pdf_is_right_when_streaming(address: str) -> None:
    text = ""
    grounding: dict[str, Any] = {}
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        chunks = client.chat.completions.create(
            model="mynah/default",
            messages=[{"role": "user", "content": PDF_QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in chunks:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            grounding = (chunk.model_extra or {}).get("grounding") or grounding
    assert "seven weeks" in text
    assert ("hr/leave-and-absence.pdf", 4) in [
        (citation["path"], citation["page"]) for citation in grounding["citations"]
    ]
    check_grounding(text, grounding)


async def test_the_async_client_gets_the_same_answer(address: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
        replies = [
            await client.chat.completions.create(
                model="mynah", messages=[{"role": "user", "content": PDF_QUESTION}], seed=seed
            )
            for seed in (1, 2)
        ]
    first, second = (reply.choices[0].message.content for reply in replies)
    assert first == second
    check_grounding(str(first), (replies[0].model_extra or {})["grounding"])


def test_what_the_handbook_does_not_say_is_refused(address: str) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        reply = client.chat.completions.create(
            model="mynah",
            messages=[
                {"role": "user", "content": "Which violinist won the Helsinki competition in 1987?"}
            ],
        )
    assert reply.choices[0].message.content == "I could not find this in the documents."
    assert (reply.model_extra or {})["grounding"]["decision"] == "abstained"


def test_the_server_says_when_it_is_ready(address: str) -> None:
    with urllib.request.urlopen(f"{address}/readyz", timeout=10) as reply:
        assert reply.status == 200
