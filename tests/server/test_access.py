from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from server.access import AccessRules, check_address, is_loopback
from server.auth import KeyStore
from server.errors import AccessRefused, AddressRefused, InvalidApiKey
from tests.server.scripted import RunningServer, ServerSetup, run_server

BODY = {"model": "mynah", "messages": [{"role": "user", "content": "a secret question"}]}


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    setup = ServerSetup(access={"allowed_origins": ("https://app.example",)})
    with run_server(setup) as running:
        yield running


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "a.localhost"]
)
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.com", ""])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_another_address_needs_a_key(store: KeyStore) -> None:
    check_address("127.0.0.1", store)
    with pytest.raises(AddressRefused, match="mynah keys create NAME"):
        check_address("0.0.0.0", store)
    store.create("laptop")
    check_address("0.0.0.0", store)


def test_with_keys_every_path_but_health_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret, _ = KeyStore(path).create("laptop")
    with run_server(ServerSetup(keys_path=path)) as server:
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        for path_ in ("/v1/models", "/v1/nothing", "/"):
            reply = httpx2.get(f"{server.url}{path_}")
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
        for key in ("wrong", secret[:-1]):
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
            with client, pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
            assert caught.value.code == "invalid_api_key"
            assert caught.value.type == "authentication_error"
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret) as client:
            assert "mynah" in [m.id for m in client.models.list()]


def test_a_server_that_had_keys_stays_closed(store: KeyStore) -> None:
    rules = AccessRules(store, host="127.0.0.1")
    headers = {"host": "127.0.0.1:1"}
    assert rules.admit("/v1/models", headers) is None
    secret, _ = store.create("laptop")
    with pytest.raises(InvalidApiKey):
        rules.admit("/v1/models", headers)
    assert rules.admit("/v1/models", {**headers, "authorization": f"bearer {secret}"}) == "laptop"
    store.delete("laptop")
    with pytest.raises(InvalidApiKey):
        rules.admit("/v1/models", headers)


def test_an_address_that_others_reach_is_never_open(store: KeyStore) -> None:
    with pytest.raises(InvalidApiKey):
        AccessRules(store, host="0.0.0.0").admit("/v1/models", {"host": "x"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "",
        "127.0.0.1.evil.example",
        "user@127.0.0.1",
        "[",
        "a:b",
    ],
)
def test_a_name_that_only_resolves_to_us_is_refused(store: KeyStore, host: str) -> None:
    rules = AccessRules(store, host="127.0.0.1")
    with pytest.raises(AccessRefused, match="allowed_hosts"):
        rules.admit("/healthz", {"host": host})


def test_host_names_can_be_allowed(store: KeyStore) -> None:
    rules = AccessRules(store, host="127.0.0.1", allowed_hosts=("Box.example",))
    rules.admit("/healthz", {"host": "box.example:8080"})
    store.create("laptop")
    rules = AccessRules(store, host="0.0.0.0", allowed_hosts=("box.example",))
    with pytest.raises(AccessRefused):
        rules.admit("/healthz", {"host": "other.example"})


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "x"])
def test_pages_of_another_origin_are_refused(server: RunningServer, origin: str) -> None:
    reply = httpx2.post(f"{server.url}/v1/chat/completions", json=BODY, headers={"origin": origin})
    assert reply.status_code == 403
    assert reply.json()["error"]["type"] == "permission_error"
    assert "access-control-allow-origin" not in reply.headers


def test_our_own_pages_and_allowed_ones_are_served(server: RunningServer) -> None:
    for origin in (server.url, "https://app.example"):
        reply = httpx2.get(f"{server.url}/v1/models", headers={"origin": origin})
        assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in reply.headers["access-control-expose-headers"]


def test_only_allowed_origins_pass_a_preflight(server: RunningServer) -> None:
    url = f"{server.url}/v1/chat/completions"
    headers = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, x-stainless-os",
    }
    reply = httpx2.options(url, headers={**headers, "origin": "https://app.example"})
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert (
        httpx2.options(url, headers={**headers, "origin": "https://no.example"}).status_code == 403
    )


def test_every_reply_has_an_id_and_a_time(server: RunningServer) -> None:
    for path in ("/healthz", "/v1/models", "/nothing"):
        reply = httpx2.get(f"{server.url}{path}")
        assert reply.headers["x-request-id"].startswith("req_")
        assert reply.headers["openai-processing-ms"].isdecimal()


@pytest.mark.parametrize(
    ("given", "is_kept"), [("my-id.1", True), ("a b", False), ("x" * 129, False)]
)
def test_a_sane_id_of_the_client_is_kept(server: RunningServer, given: str, is_kept: bool) -> None:
    reply = httpx2.get(f"{server.url}/healthz", headers={"x-request-id": given})
    assert (reply.headers["x-request-id"] == given) is is_kept


def test_the_log_has_one_line_a_request_without_key_or_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    secret, _ = KeyStore(path).create("laptop")
    caplog.set_level(logging.INFO, "mynah.request")
    with run_server(ServerSetup(keys_path=path)) as server:
        headers = {"authorization": f"Bearer {secret}"}
        url = f"{server.url}/v1/chat/completions"
        httpx2.post(url, json=BODY, headers=headers)
        httpx2.post(url, json={**BODY, "model": 'x" status=200\nforged'}, headers=headers)
    good, bad = (r.getMessage() for r in caplog.records if r.name == "mynah.request")
    assert "key=laptop" in good
    assert "tokens_in=40 tokens_out=9 queue_ms=0.5" in good
    assert "status=200" in good
    assert "error=model_not_found" in bad
    assert "\n" not in bad
    assert secret not in caplog.text
    assert "secret question" not in caplog.text


def test_prompts_are_logged_only_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mynah.request")
    with run_server(ServerSetup(components={"has_prompts_in_log": True})) as server:
        httpx2.post(f"{server.url}/v1/chat/completions", json=BODY)
    assert "a secret question" in caplog.text


def test_models_are_listed_and_found_by_ids_with_slashes(server: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [m.id for m in client.models.list()] == [
            "mynah",
            "mynah/hr",
            "mynah/it",
            "mynah-raw",
        ]
        model = client.models.retrieve("mynah/hr")
        assert (model.created, model.owned_by) == (1_700_000_000, "mynah")
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("mynah/none")
        assert caught.value.code == "model_not_found"
