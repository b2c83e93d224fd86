from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from server import assembly, cli
from server.commands.output import printable
from server.errors import InternalError
from tests.fakes import HashingEmbedder
from tests.server.scripted import QUOTE, ScriptedGrounder, make_services

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def mynah(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process with a hashing embedder; exit code, output, errors."""
    monkeypatch.setattr(assembly, "make_embedder", lambda settings: HashingEmbedder())
    for name in list(os.environ):
        if name.startswith("MYNAH_"):
            monkeypatch.delenv(name)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(data_dir), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "hr").mkdir(parents=True)
    (folder / "hr" / "leave.md").write_text(f"# Parental leave\n\n{QUOTE}\n")
    (folder / "wifi.txt").write_text("The guest network is called Heron.\n")
    return folder


@pytest.fixture
def grounder(monkeypatch: pytest.MonkeyPatch) -> ScriptedGrounder:
    """What `ask` and `chat` talk to in the place of a loaded model."""
    scripted = ScriptedGrounder()
    monkeypatch.setattr(
        assembly, "load_services", lambda settings, is_warm: make_services(scripted)
    )
    return scripted


def test_ingest_takes_a_folder_and_then_finds_nothing_to_do(mynah: Run, folder: Path) -> None:
    code, out, err = mynah("ingest", folder)
    assert (code, err) == (0, "")
    assert "Added 2, updated 0, unchanged 0 documents of default: 2 passages" in out
    code, out, _ = mynah("ingest", folder)
    assert code == 0
    assert out == "Nothing to do: all 2 documents are in default already, unchanged.\n"
    (folder / "wifi.txt").write_text("The guest network is called Egret.\n")
    assert "Added 0, updated 1, unchanged 1" in mynah("ingest", folder)[1]


def test_files_that_cannot_be_read_are_listed_and_the_rest_is_in(mynah: Run, folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    code, out, err = mynah("ingest", folder, folder / "none.txt")
    assert code == 1
    assert "Added 2" in out
    assert "mynah: 2 of 4 files are not in:" in err
    assert "broken.pdf" in err
    assert "none.txt" in err
    code, out, _ = mynah("ingest", "--json", folder)
    assert code == 1
    failed = json.loads(out)["failed"]
    assert [f["path"] for f in failed] == ["broken.pdf"]
    assert failed[0]["code"] == "file_damaged"


def test_ingest_of_nothing_says_so(mynah: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = mynah("ingest", tmp_path / "empty")
    assert (code, out) == (1, "")
    assert err == "mynah: found no file of a known kind there\n"
    assert mynah("ingest")[0] == 2


def test_documents_and_collections_are_listed(mynah: Run, folder: Path) -> None:
    assert "`mynah ingest PATH`" in mynah("documents")[1]
    assert "`mynah ingest PATH`" in mynah("collections")[1]
    mynah("ingest", folder, "--collection", "hr")
    table = mynah("documents")[1].splitlines()
    assert table[0].split() == ["ID", "COLLECTION", "PASSAGES", "BYTES", "PATH"]
    assert [line.split()[-1] for line in table[1:]] == ["hr/leave.md", "wifi.txt"]
    rows = json.loads(mynah("documents", "--json", "--collection", "hr")[1])
    assert [row["path"] for row in rows] == ["hr/leave.md", "wifi.txt"]
    (row,) = json.loads(mynah("collections", "--json")[1])
    assert (row["name"], row["num_documents"]) == ("hr", 2)
    assert mynah("documents", "--collection", "none")[0] == 1


def test_attributes_are_given_at_ingestion(mynah: Run, folder: Path) -> None:
    given = ["--attribute", "team=hr", "--attribute", "year=2024", "--attribute", "open=true"]
    assert mynah("ingest", folder, "--collection", "hr", *given)[0] == 0
    listed = json.loads(mynah("documents", "--json")[1])
    assert [row["attributes"] for row in listed] == [{"team": "hr", "year": 2024, "open": True}] * 2
    assert mynah("ingest", folder, "--attribute", "team")[0] == 2
    (row,) = json.loads(mynah("collections", "--json")[1])
    assert (row["layout"], row["recall"]) == ("flat", None)
    assert mynah("collections")[1].splitlines()[0].split()[-1] == "VECTORS"


def test_documents_are_deleted_by_id_by_path_and_all_at_once(mynah: Run, folder: Path) -> None:
    mynah("ingest", folder)
    (first, _) = json.loads(mynah("documents", "--json")[1])
    assert mynah("delete", first["id"])[1] == "Deleted default/hr/leave.md.\n"
    assert mynah("delete", "wifi.txt", "--collection", "default")[0] == 0
    assert json.loads(mynah("documents", "--json")[1]) == []
    code, _, err = mynah("delete", "wifi.txt", "--collection", "default")
    assert (code, err.startswith("mynah: ")) == (1, True)
    mynah("ingest", folder)
    code, out, _ = mynah("delete", "--collection", "default", "--all")
    assert (code, out.splitlines()[-1]) == (0, "Deleted the collection default.")
    assert mynah("delete")[0] == 2
    assert mynah("delete", "--all")[0] == 2


def test_a_collection_is_embedded_anew(
    mynah: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mynah("ingest", folder)
    other = HashingEmbedder(dimension=32, model="other")
    monkeypatch.setattr(assembly, "make_embedder", lambda settings: other)
    code, _, err = mynah("ingest", folder)
    assert code == 1
    assert "mynah ingest --reembed --collection default" in err
    code, out, _ = mynah("ingest", "--reembed")
    assert (code, out) == (0, "Embedded the 2 passages of default with other.\n")
    assert mynah("ingest", folder)[0] == 0


def test_ask_prints_the_answer_and_its_citations(
    mynah: Run, folder: Path, grounder: ScriptedGrounder
) -> None:
    mynah("ingest", folder)
    code, out, err = mynah("ask", "How long?", "--mode", "answer", "--collection", "default")
    assert (code, err) == (0, "")
    assert out == f'{QUOTE} [1]\n\n[1] hr/leave policy.pdf, page 3: "{QUOTE}"\n'
    messages, scope, _ = grounder.calls[0]
    assert messages[0].content == "How long?"
    assert (scope.mode, scope.collections) == ("answer", ("default",))
    reply = json.loads(mynah("ask", "How long?", "--json")[1])
    assert reply["answer"] == f"{QUOTE} [1]"
    assert reply["grounding"]["citations"][0]["page"] == 3


def test_ask_needs_documents_and_a_question(
    mynah: Run, folder: Path, grounder: ScriptedGrounder
) -> None:
    code, _, err = mynah("ask", "How long?")
    assert (code, err) == (
        1,
        "mynah: there are no documents yet; add some with `mynah ingest PATH`.\n",
    )
    assert mynah("ask", "How long?", "--mode", "off")[0] == 0
    mynah("ingest", folder)
    assert "no collection 'none'" in mynah("ask", "x", "--collection", "none")[2]
    assert mynah("ask", " ")[0] == 2
    assert mynah("ask", "x", "--mode", "guess")[0] == 2


def test_a_document_cannot_steer_the_terminal(
    mynah: Run, folder: Path, grounder: ScriptedGrounder
) -> None:
    mynah("ingest", folder)
    grounder.pieces = ["\x1b[2J", "red\u202e"]
    assert mynah("ask", "x")[1].startswith("\\x1b[2Jred\\u202e\n")
    assert printable("a\tb\nç\x07") == "a\tb\nç\\x07"


def test_chat_remembers_the_turns_until_told_otherwise(
    mynah: Run, folder: Path, grounder: ScriptedGrounder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mynah("ingest", folder)
    lines = iter(["How long?", "", "And then?", "/new", "Again?", "/what", "/quit", "never"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    code, out, _ = mynah("chat")
    assert code == 0
    assert out.count(f'page 3: "{QUOTE}"') == 3
    assert "/quit leaves" in out
    assert [[m.content for m in call[0]] for call in grounder.calls] == [
        ["How long?"],
        ["How long?", f"{QUOTE} [1]", "And then?"],
        ["Again?"],
    ]


def test_chat_goes_on_after_an_error_and_ends_with_its_input(
    mynah: Run, folder: Path, grounder: ScriptedGrounder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mynah("ingest", folder)
    grounder.refusal = InternalError("something is wrong")
    lines = iter(["How long?", "And then?"])

    def read(prompt: str) -> str:
        for line in lines:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", read)
    code, _, err = mynah("chat")
    assert (code, err.count("mynah: something is wrong")) == (0, 2)
    assert len(grounder.calls[1][0]) == 1


def test_keys_are_made_listed_and_deleted(mynah: Run) -> None:
    code, out, _ = mynah("keys", "create", "laptop", "--json")
    key = json.loads(out)
    assert (code, key["name"]) == (0, "laptop")
    code, secret, err = mynah("keys", "create", "phone")
    assert secret.startswith("mynah_")
    assert "cannot be shown again" in err
    listed = mynah("keys", "list")[1]
    assert "laptop" in listed
    assert secret.strip() not in listed
    assert [k["name"] for k in json.loads(mynah("keys", "list", "--json")[1])] == [
        "laptop",
        "phone",
    ]
    assert mynah("keys", "create", "phone")[0] == 1
    assert mynah("keys", "delete", "phone")[1] == "Deleted the key phone.\n"
    assert mynah("keys", "delete", "phone", "--json")[0] == 1
    mynah("keys", "delete", "laptop")
    assert "mynah keys create NAME" in mynah("keys", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "No such command 'nope'"),
        (["--nope"], 2, "No such option"),
        (["keys"], 2, "Missing command"),
        (["serve", "--port", "x"], 2, "--port"),
        (["serve", "--host", "0.0.0.0", "--model", "x"], 1, "mynah keys create NAME"),
        (["serve", "--model", "/nonexistent.gguf"], 1, "there is no model file"),
        (["serve", "--model", __file__], 1, "is not a GGUF file"),
        (["--config", "/nonexistent.toml", "documents"], 1, "no configuration file"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    mynah: Run, arguments: list[str], code: int, message: str
) -> None:
    result, out, err = mynah(*arguments)
    assert (result, out) == (code, "")
    assert err.startswith("mynah: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unforeseen_error_is_one_line_unless_debugging(
    mynah: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(assembly, "make_embedder", fail)
    assert mynah("documents")[::2] == (
        1,
        "mynah: internal error: ValueError: odd (MYNAH_DEBUG=1 shows where)\n",
    )
    monkeypatch.setenv("MYNAH_DEBUG", "1")
    with pytest.raises(ValueError, match="odd"):
        mynah("documents")


def test_every_command_has_help() -> None:
    for command in ("ingest", "documents", "delete", "collections", "ask", "chat", "serve", "keys"):
        assert cli.run([command, "--help"]) == 0
