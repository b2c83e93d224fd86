"""Settings: environment over configuration file over defaults; every name and value is checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from server.config_sources import PREFIX, read_environment, read_file
from server.errors import ConfigInvalid

CONFIG_FILENAME = "mynah.toml"

TextTuple = Annotated[tuple[str, ...], NoDecode]
Source = Mapping[str, Any]


class Settings(BaseSettings):
    """Everything that can be set. Units stand in the names; None means what the text says."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".local" / "share" / "mynah",
        description="Folder of the database, the vectors and the API keys.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that `serve` binds.")
    port: int = Field(8000, ge=0, le=65535, description="Port to bind; 0 takes a free one.")
    model: Path | None = Field(
        None,
        description="GGUF file to load, or the name of a registered model; by default the one"
        " that `mynah models use` chose, else the one that comes with Mynah.",
    )
    context_tokens: int | None = Field(
        None,
        ge=256,
        le=2**24,
        description="Context of one request; by default what the model was trained for, at most"
        " 8192 and what memory is good for.",
    )
    num_slots: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Requests that are decoded together; by default as many as memory is good for,"
        " at most 8.",
    )
    num_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of the engine; 0 takes what `mynah tune-engine` found, without that"
        " one for each physical core.",
    )
    num_gpu_layers: int | None = Field(
        None,
        ge=-1,
        le=10_000,
        description="Layers of the model put on the GPU; -1 means all. By default all where"
        " llama.cpp was built for one, else none.",
    )
    chunk_tokens: int | None = Field(
        None,
        ge=16,
        le=8192,
        description="Tokens of prompts computed in one step, which running answers wait for; by"
        " default what `mynah tune-engine` found, without that 256.",
    )
    kv_type: Literal["f16", "q8_0"] = Field(
        "f16",
        description="Numbers of the KV cache; `q8_0` takes half the memory and is less exact.",
    )
    max_waiting: int = Field(
        64, ge=0, le=100_000, description="Requests that may wait for a slot; the next gets 429."
    )
    request_deadline_s: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="Time after which a question to the model ends with an error, waiting in the"
        " queue included; by default none.",
    )
    kv_reuse: Literal["auto", "off", "exact", "passages"] = Field(
        "auto",
        description="What the engine computes once for many requests: `exact` takes beginnings"
        " that are equal, `passages` also passages wherever they stand, each computed as if it"
        " stood alone, `auto` is `passages` for a model trained so and `exact` for any other.",
    )
    kv_ram_bytes: int = Field(
        2**30,
        ge=0,
        le=2**44,
        description="Memory for the states of passages; conversations may take a quarter as much"
        " beside them.",
    )
    kv_disk_bytes: int = Field(
        4 * 2**30,
        ge=0,
        le=2**46,
        description="Room for the states of passages in `data_dir`; 0 saves none.",
    )
    kv_link_tokens: int = Field(
        0,
        ge=0,
        le=256,
        description="First tokens of each passage that are computed anew in every prompt; more"
        " come nearer to `exact` and take longer.",
    )
    grounding_mode: Literal["auto", "quote", "answer", "off"] = Field(
        "auto",
        description="How questions are answered; `auto` is `quote` for the bundled model and"
        " `answer` for any other.",
    )
    max_passages: int = Field(6, ge=1, le=64, description="Passages that an answer may rest on.")
    answer_tokens: int = Field(
        512,
        ge=16,
        le=2**20,
        description="Room kept for an answer whose length the request leaves open.",
    )
    unsupported_sentences: Literal["flag", "drop", "abstain"] = Field(
        "flag",
        description="What `answer` mode does with a sentence that no passage supports.",
    )
    live_links: bool = Field(
        False,
        description="Whether links and images of documents stay live Markdown in answers; by"
        " default they are plain words and addresses are code.",
    )
    embedder: Path | None = Field(
        None,
        description="Folder of a sentence-transformers model; by default all-MiniLM-L6-v2.",
    )
    reranker: Path | None = Field(
        None,
        description="Folder of a sentence-transformers cross-encoder that reads question and"
        " passage together; by default none does.",
    )
    reads_sentences: bool = Field(
        True,
        description="Whether the best sentences found are read together with the question by a"
        " small network before passages are ordered and sentences chosen: better hits, answers"
        " and refusals, for one to three tenths of a second and 100 MB. It reads English.",
    )
    rewrite_questions: Literal["rules", "model"] = Field(
        "rules",
        description="What puts a follow-up question into words that stand alone for the search;"
        " `model` suits a strong one.",
    )
    api_keys_file: Path | None = Field(
        None, description="File of the hashed API keys; by default `keys.json` in `data_dir`."
    )
    allowed_hosts: TextTuple = Field(
        (), description="Further host names that requests may name, separated by commas."
    )
    allowed_origins: TextTuple = Field(
        (), description="Origins of web pages that may call the API, separated by commas."
    )
    max_request_bytes: int = Field(
        8 * 2**20, ge=1024, le=2**34, description="Largest body of a request."
    )
    max_file_bytes: int = Field(
        100_000_000, ge=1024, le=2**40, description="Largest file that `ingest` reads."
    )
    ping_interval_s: float = Field(
        10.0, gt=0, le=3600, description="Silence in a stream after which a comment is sent."
    )
    shutdown_timeout_s: int = Field(
        10, ge=0, le=3600, description="Time that running requests get to finish when stopping."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages that are logged."
    )
    prompts_in_log: bool = Field(False, description="Whether the log shows what users ask.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only values given: `load_settings` merges the sources, so that it can name them."""
        return (init_settings,)

    @field_validator("data_dir", "embedder", "reranker", "api_keys_file", mode="after")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("model", mode="after")
    @classmethod
    def _expand_model(cls, value: Path | None) -> Path | None:
        """A bare name that is no file here stays as it is: it may be that of a registered model."""
        if value is None or (len(value.parts) == 1 and not value.expanduser().exists()):
            return value
        return value.expanduser().absolute()

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def keys_path(self) -> Path:
        """The file of API keys."""
        return self.api_keys_file or self.data_dir / "keys.json"


def load_settings(
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Settings:
    """The settings: `options` (None means not given) over environment over file over defaults.

    `config` names the file; without it `MYNAH_CONFIG` does, and without that `mynah.toml` in the
    data directory is read if it exists. Raises `ConfigInvalid` with the name that is wrong.
    """
    variables = os.environ if environment is None else environment
    given = {name: value for name, value in options.items() if value is not None}
    from_environment = read_environment(variables, Settings.model_fields)
    named = config or (Path(variables["MYNAH_CONFIG"]) if variables.get("MYNAH_CONFIG") else None)
    if named is not None:
        path, from_file = named, read_file(named, Settings.model_fields)
    else:
        early = {k: v for k, v in {**from_environment, **given}.items() if k == "data_dir"}
        path = _validate(early, {}, {}, Path()).data_dir / CONFIG_FILENAME
        from_file = read_file(path, Settings.model_fields) if path.is_file() else {}
        if "data_dir" in from_file:
            raise ConfigInvalid(
                f"{path}: data_dir cannot be set in a file that is found through it; use"
                " --data-dir, MYNAH_DATA_DIR or --config.",
                param="data_dir",
            )
    return _validate(given, from_environment, from_file, path)


def _validate(options: Source, environment: Source, file: Source, path: Path) -> Settings:
    try:
        return Settings(**{**file, **environment, **options})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        if name in options:
            place = f"--{name.replace('_', '-')}"
        elif name in environment:
            place = f"{PREFIX}{name.upper()}"
        else:
            place = f"{path}: {name}"
        reason = first["msg"].partition(", unable")[0].replace("Input should be", "must be")
        raise ConfigInvalid(f"{place} {reason}, not {first['input']!r}.", param=name) from None
