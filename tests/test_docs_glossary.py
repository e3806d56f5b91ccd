"""The page docs/glossary.md has the nouns of the public API, each with one meaning."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

import msgspec

import knchat_client
from backends.settings import Settings
from functions import triggers
from functions.runtime import openapi
from knchat.__main__ import COMMANDS
from schemas import chat_queries, endpoints, frames
from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from schemas.kinds.chats import ChatState
from schemas.kinds.history import HistoryMessage
from schemas.topics import TOPICS

ROOT: Final = Path(__file__).parents[1]
GLOSSARY: Final = (ROOT / "docs/glossary.md").read_text()


def _names() -> dict[str, str]:
    """Every word that a name of the public API is made of -> one name that holds it."""
    queries = [chat_queries.ChatsQuery, chat_queries.MessagesQuery, chat_queries.DigestQuery]
    structs = [
        *CLIENT_FRAMES.values(),
        *SERVER_FRAMES.values(),
        HistoryMessage,
        ChatState,
        frames.Limits,
        *queries,
    ]
    models = [
        model
        for model in vars(endpoints).values()
        if isinstance(model, type) and issubclass(model, endpoints.Body | endpoints.Query)
    ]
    names = [
        *(struct.__struct_config__.tag for struct in structs if struct.__struct_config__.tag),
        *(field.encode_name for struct in structs for field in msgspec.structs.fields(struct)),
        *(call.path for call in openapi.described_endpoints()),
        *(field.alias or name for model in models for name, field in model.model_fields.items()),
        *COMMANDS,
        *TOPICS,
        *(trigger.target for trigger in triggers.TRIGGERS),
        *(item.metadata["variable"] or item.name for item in dataclasses.fields(Settings)),
        *knchat_client.__all__,
        *(name for name in vars(knchat_client.Client) if not name.startswith("_")),
    ]
    return {
        word.lower(): name
        for name in names
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    }


# What a path or variable begins with, units, and prepositions.
_PLAIN: Final = frozenset({"v", "k", "s", "ms", "in", "per", "at", "from", "to"})


def test_the_glossary_has_every_noun_of_the_public_api():
    """Frames and their fields, calls and bodies, commands, topics, functions, settings, and what
    the Python client has; singular or plural.
    """
    said = set(re.findall(r"[a-z]+", GLOSSARY.lower()))
    forms = {
        word: {word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s"}
        for word in _names()
    }

    assert {
        word: _names()[word]
        for word, either in forms.items()
        if not either & said and word not in _PLAIN
    } == {}


def test_the_glossary_explains_frames_calls_topics_commands_and_functions_by_name():
    """Whole, as they are written on the wire."""
    names = {
        *CLIENT_FRAMES,
        *SERVER_FRAMES,
        *TOPICS,
        *COMMANDS,
        *(trigger.target for trigger in triggers.TRIGGERS),
    }
    paths = {
        part
        for call in openapi.described_endpoints()
        for part in call.path.split("/")
        if part and not part.startswith("{")
    } - {"v1"}

    assert {
        name
        for name in names | paths
        if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", GLOSSARY)
    } == set()


def test_a_word_of_the_glossary_has_one_row():
    """One word, one meaning: two rows would be two."""
    text = GLOSSARY.partition("\n## Words of the project's older texts\n")[0]
    words = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)

    assert sorted({word for word in words if words.count(word) > 1} - {"word", "---"}) == []


_OLDER: Final = re.compile(
    r"\b(?:whoever|somebody|nobody|the house|played|lets go of|for ever|doors?)\b", re.IGNORECASE
)
_QUOTING: Final = {
    "CHANGELOG.md": "the old name of the NetworkPolicy `deny-all`",
    "docs/glossary.md": "says what to write instead",
    "scripts/servers/postgres.py": "the system's user `nobody`",
    "tests/test_docs_glossary.py": "this list",
}


def test_the_projects_older_words_are_gone():
    """From code, tests and pages, but for the files that quote them."""
    found = {
        path.relative_to(ROOT).as_posix(): sorted(set(words))
        for top in ROOT.glob("[A-Za-z]*")
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.suffix in {".py", ".md"} and (words := _OLDER.findall(path.read_text()))
    }

    assert {file: words for file, words in found.items() if file not in _QUOTING} == {}
    assert found.keys() == _QUOTING.keys()
