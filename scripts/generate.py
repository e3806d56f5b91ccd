"""What `scripts/generate` does: makes the files that are made from others, or says which of them
are stale.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import msgspec

from schemas import chat_pb2 as pb
from schemas import cloudevents, frames, kinds
from schemas.configuration import SECTIONS
from schemas.demo import DEMO_USERS
from schemas.ids import direct_chat, first_id_at, time_text
from schemas.topics import (
    COMMANDS_ISSUED,
    EVENT_TYPES,
    OUTCOMES_DECIDED,
    QUERIES_ASKED,
    UPLOADS_COMPLETED,
)

ROOT = Path(__file__).resolve().parent.parent
AT_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
NEVER_MS = 4_102_444_800_000  # 2100-01-01T00:00:00Z: a question that does not grow old


def protobuf() -> dict[str, bytes]:
    """The Python code and its types for schemas/chat.proto."""
    with tempfile.TemporaryDirectory(prefix="kn-chat-") as folder:
        protoc = Path(sys.executable).parent / "protoc"
        subprocess.run(
            [protoc, f"--python_out={folder}", f"--pyi_out={folder}", "schemas/chat.proto"],
            cwd=ROOT,
            check=True,
        )
        made = {path.name: path.read_bytes() for path in Path(folder, "schemas").iterdir()}
    return {f"schemas/{name}": content for name, content in made.items()}


def client_protocol() -> dict[str, bytes]:
    """The modules of `schemas` that the Python client shares with the server: it is a distribution
    of its own and imports none of ours.

    Its `frames` hold those of all kinds too, and nothing of how they travel.
    """
    files = {"frames": _frames_of_all_kinds()}
    for name in ("codec", "errors", "ids", "lenient"):
        head = f"# Copied from schemas/{name}.py by scripts/generate; change that file.\n"
        files[name] = head + (ROOT / f"schemas/{name}.py").read_text()
    return {
        f"clients/python/knchat_client/protocol/{name}.py": re.sub(
            r"^from schemas\.(?:(kinds)|(\w+)) import",
            lambda found: f"from knchat_client.protocol.{found[2] or 'frames'} import",
            text,
            flags=re.MULTILINE,
        ).encode()
        for name, text in files.items()
    }


def sync_client() -> dict[str, bytes]:
    """The Python client for programs without asyncio: a line for each call of the other one."""
    folder = "clients/python/knchat_client"
    tree = ast.parse((ROOT / folder / "client.py").read_text())
    (client,) = (
        part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == "Client"
    )
    calls = [
        f"    {part.name} = _waits_for(Client.{part.name})\n"
        for part in client.body
        if isinstance(part, ast.AsyncFunctionDef)
        and not part.name.startswith("_")
        and part.name not in {"close", "events"}
    ]
    head, mark, rest = re.split(
        r"(    # ---- made from Client by .*\n\n)", (ROOT / folder / "sync.py").read_text()
    )
    tail = rest[rest.index("\n    # ---- ") :]
    return {f"{folder}/sync.py": f"{head}{mark}{''.join(calls)}{tail}".encode()}


def _frames_of_all_kinds() -> str:
    """schemas/frames.py with the frames of all kinds below its own, and the tables of both."""
    body = inspect.getsource(frames).partition("\nFRAME_BYTES")
    sources = [body[0]]
    parts = [(body[1] + body[2]).strip()]
    for module in _modules_of_kinds():
        sources.append(inspect.getsource(module))
        structs = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, msgspec.Struct)
            and value.__module__ == module.__name__
        ]
        texts = [f"# Of {module.__name__.replace('.', '/')}.py.", *map(inspect.getsource, structs)]
        parts.append("\n\n\n".join(text.strip() for text in texts))
    for table in ("CLIENT_FRAMES", "SERVER_FRAMES"):
        kind = "ClientFrame" if table == "CLIENT_FRAMES" else "ServerFrame"
        lines = [f"{table}: Final[Mapping[str, type[{kind}]]] = {{"]
        lines += [f'    "{name}": {held.__name__},' for name, held in getattr(kinds, table).items()]
        parts.append("\n".join([*lines, "}"]))
    text = "\n\n\n".join(parts) + "\n"
    return (
        "# Copied from schemas/frames.py and schemas/kinds by scripts/generate; change those "
        "files.\n"
        f'"""{ast.get_docstring(ast.parse(sources[0]))}\n"""\n\n'
        "from __future__ import annotations\n\n"
        f"{_imports(sources, text)}\n\n{text}"
    )


def _modules_of_kinds() -> list[ModuleType]:
    """Where the frames of KINDS are, in its order."""
    found = [
        held.__module__
        for table in (kinds.CLIENT_FRAMES, kinds.SERVER_FRAMES)
        for held in table.values()
    ]
    return [
        module
        for name, module in vars(kinds).items()
        if isinstance(module, ModuleType) and module.__name__ in found and module is not frames
    ]


def _imports(sources: Sequence[str], text: str) -> str:
    """What these import from elsewhere, as far as the text names it."""
    names: dict[str, set[str]] = {"collections.abc": {"Mapping"}}
    for source in sources:
        for line in ast.parse(source).body:
            if isinstance(line, ast.ImportFrom) and line.module and not line.level:
                names.setdefault(line.module, set()).update(alias.name for alias in line.names)
    blocks: list[list[str]] = [[], []]
    for module in sorted(names):
        used = [name for name in names[module] if re.search(rf"\b{name}\b", text)]
        if used and module.partition(".")[0] not in {"__future__", "schemas"}:
            # As ruff sorts them: constants, classes, the others.
            used.sort(key=lambda name: (not name.isupper(), name.islower(), name))
            known = module.partition(".")[0] in sys.stdlib_module_names
            blocks[not known].append(f"from {module} import {', '.join(used)}")
    return "\n\n".join("\n".join(block) for block in blocks)


def samples() -> dict[str, bytes]:
    """An event for each event function, as `curl -H @NAME.headers --data-binary @NAME.bin` posts
    it.
    """
    alice, bob = DEMO_USERS["alice"], DEMO_USERS["bob"]
    chat, said_at = direct_chat(alice, bob), first_id_at(AT_MS)
    command = pb.Command(
        id=said_at,
        user=alice,
        device="laptop",
        key="sample-1",
        chat=chat,
        send=pb.Send(text="Hello from a sample event"),
    )
    commands = _event(COMMANDS_ISSUED.message, pb.Commands(schema=1, commands=[command]))
    failure = {
        "knativeerrordest": "http://send.chat.svc.cluster.local",
        "knativeerrorcode": "422",
        "reason": "malformed-chat",
    }
    page = pb.Query(
        user=alice,
        session="sample",
        re=1,
        deadline_ms=NEVER_MS,
        history=pb.HistoryQuery(chat=chat, limit=50),
    )
    chats = pb.Query(
        user=alice, session="sample", re=2, deadline_ms=NEVER_MS, chats=pb.ChatsQuery(limit=50)
    )
    outcomes = _event(
        OUTCOMES_DECIDED.message, pb.Outcomes(schema=1, outcomes=[pb.Outcome(command=command)])
    )
    events = {
        "send": commands,
        "persist": outcomes,
        "index": outcomes,
        "history": _event(QUERIES_ASKED.message, pb.Queries(schema=1, queries=[page, chats])),
        "resize": _event(
            UPLOADS_COMPLETED.message,
            pb.Uploads(schema=1, uploads=[pb.Upload(file=1, owner=alice, type="image/png")]),
        ),
        "report_failed": replace(commands, extensions=failure),
    }
    files: dict[str, bytes] = {}
    for name, event in events.items():
        headers, body = cloudevents.to_http(event)
        files[f"functions/samples/{name}.headers"] = "".join(
            f"{key}: {value}\n" for key, value in headers
        ).encode()
        files[f"functions/samples/{name}.bin"] = body
    return files


def _event(
    message: str, payload: pb.Commands | pb.Outcomes | pb.Queries | pb.Uploads
) -> cloudevents.Event:
    event_type = EVENT_TYPES[message]
    return cloudevents.Event(
        id=f"sample-{message.lower()}",
        source="/samples",
        type=event_type.type,
        data=payload.SerializeToString(),
        time=time_text(AT_MS),
        dataschema=event_type.dataschema,
    )


def configuration_page() -> dict[str, bytes]:
    """The tables of what can be configured while everything runs, below the page's own text."""
    page = "docs/operations/configuration.md"
    if not (ROOT / page).exists():  # a copy without pages
        return {}
    own, mark, _ = (ROOT / page).read_text().partition("\n## Sections\n")
    text = [own, mark, "\nMade by `scripts/generate` from `schemas/configuration.py`.\n"]
    for name, section in SECTIONS.items():
        text += [
            f"\n### {name}\n\n",
            *(
                f"{line}\n"
                for line in textwrap.wrap(" ".join((section.__doc__ or "").split()), 100)
            ),
            "\n| field | default | may be | unit | meaning | default from |\n",
            "|---|---|---|---|---|---|\n",
        ]
        for field in section.fields().values():
            may_be = ", ".join(field.choices) or "true, false"
            if field.least is not None:
                may_be = f"{field.least} to {field.most}"
            default = str(field.default).lower() if field.type == "boolean" else field.default
            setting = f"`KNCHAT_{field.setting.upper()}`" if field.setting else ""
            text.append(
                f"| `{field.name}` | {default} | {may_be} | {field.unit} | {field.meaning} | "
                f"{setting} |\n"
            )
    return {page: "".join(text).encode()}


def main(arguments: list[str]) -> int:
    """Writes the files; with --check only compares, and 1 means that some are stale."""
    files = protobuf() | samples() | client_protocol() | sync_client() | configuration_page()
    stale = [
        name
        for name, content in files.items()
        if not (ROOT / name).exists() or (ROOT / name).read_bytes() != content
    ]
    for name in stale:
        print(
            f"{name} is stale: run scripts/generate" if "--check" in arguments else name,
            file=sys.stderr,
        )
        if "--check" not in arguments:
            (ROOT / name).write_bytes(files[name])
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
