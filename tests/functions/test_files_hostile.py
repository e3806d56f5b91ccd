"""Hostile files, names, sizes, URLs and ids, over HTTP: none is stored wrongly or served active."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.functions import file_contents as made
from tests.functions.callers import Caller, problem
from tests.functions.uploading import PNG, announced, complete, path_of, put, read, uploaded

PAGE = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
ZIP = made.archive({"a.txt": b"a"})
RTL, ZERO_WIDTH, NUL = "\u202e", "\u200b", "\0"

ACTIVE = {
    "a page": ("page.html", "text/html", PAGE),
    "a page without an extension": ("page", "text/html", PAGE),
    "a page behind a comment": ("page.html", "text/html", b"<!-- x -->" + PAGE),
    "a page in UTF-16": ("page.html", "text/html", PAGE.decode().encode("utf-16")),
    "a page of unknown type": ("page", "application/octet-stream", PAGE),
    "a page as a text": ("page.txt", "text/plain", PAGE),
    "an SVG with a script": ("image.svg", "image/svg+xml", SVG),
    "an SVG as XML": ("image.xml", "application/xml", SVG),
    "an SVG of unknown type": ("image", "application/octet-stream", SVG),
    "XHTML": (
        "page.xhtml",
        "application/xhtml+xml",
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script/></html>',
    ),
    "XML with a stylesheet": (
        "x.xml",
        "application/xml",
        b'<?xml version="1.0"?><?xml-stylesheet href="x.xsl" type="text/xsl"?><x/>',
    ),
    "a script": ("x.js", "text/javascript", b"alert(1)"),
    "a stylesheet": ("x.css", "text/css", b"body{background:url(//evil)}"),
    "a PDF": ("x.pdf", "application/pdf", b"%PDF-1.7\n/JavaScript (app.alert(1))"),
    "a mail": ("x.eml", "message/rfc822", b"MIME-Version: 1.0\nContent-Type: text/html\n\n" + PAGE),
    "an archive": ("x.zip", "application/zip", ZIP),
    "a zip bomb": ("x.zip", "application/zip", made.archive({"0": bytes(2**22)})),
    "a text": ("x.txt", "text/plain", b"javascript:alert(1)"),
    "a PNG bomb": ("x.png", "image/png", made.png_bomb()),
}
"""Taken, and never served as what a browser could run, or would have to decode."""

REFUSED = {
    "a page as an image": ("x.png", "image/png", PAGE, "type"),
    "a page as a JPEG": ("x.jpg", "image/jpeg", PAGE, "type"),
    "an SVG as a PNG": ("x.png", "image/png", SVG, "type"),
    "a PNG as a PDF": ("x.pdf", "application/pdf", PNG, "type"),
    "a PNG as a page": ("x.html", "text/html", PNG, "type"),
    "an archive as an image": ("x.png", "image/png", ZIP, "type"),
    "nothing known as an image": ("x.png", "image/png", b"\x01\x02\x03" * 30, "type"),
    "a PNG named as a page": ("x.html", "image/png", PNG, "name"),
    "a PNG named as a program": ("x.png.exe", "application/octet-stream", PNG, "name"),
    "a program behind a document": ("x.pdf.exe", "application/octet-stream", b"MZ" * 99, "name"),
    "a script behind an image": ("x.jpg.js", "text/javascript", b"alert(1)", "name"),
    "a GIF that is a page": ("x.gif", "image/gif", made.gif(comment=PAGE), "content"),
    "a PNG that is an archive": ("x.png", "image/png", PNG + ZIP, "content"),
    "a JPEG that is a page": ("x.jpg", "image/jpeg", made.jpeg(comment=PAGE), "content"),
    "a PDF that is an archive": ("x.pdf", "application/pdf", b"%PDF-1.7\n" + ZIP, "content"),
}
"""Refused when they are completed, with the field that is not true."""

NAMES = {
    "a path": "../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "a path of Windows": "..\\..\\x.png",
    "a drive's path": "C:\\x.png",
    "a slash that looks like one": "a\u2215b.png",
    "no name": "",
    "a space": " ",
    "dots": "..",
    "a dot at the end": "x.png.",
    "a line end": "a\nb.png",
    "a header": 'a.png"\r\nset-cookie: a=b',
    "a NUL": f"a.png{NUL}.html",
    "an escape": "a\x1b[2Jb.png",
    "a mark that turns the text": f"a{RTL}gnp.exe",
    "an isolate": "a\u2066b.png",
    "nothing visible": ZERO_WIDTH,
    "a line separator": "a\u2028b.png",
    "a device": "con.png",
    "half a character": "\ud800.png",
    "too long": "x" * 252 + ".png",
    "too long in UTF-8": "ü" * 126 + ".png",
}
"""Refused when they are announced."""

ODD_NAMES = {
    "quotes": 'a"b";x=y.png',
    "a percent sign": "100%25.png",
    "semicolons": "a;filename=b.html;.png",
    "an apostrophe": "UTF-8''a.png",
    "other letters": "фото 写真 🙂.png",
    "letters from right to left": "תמונה.png",
    "a hidden file": ".htaccess.png",
    "a template": "${jndi:ldap:x}.png",
    "a tag": "<b>x<b>.png",
}
"""Taken, and told to browsers as nothing but a name."""

SIZES = (0, -1, 2**63, 256 * 2**20 + 1, "10", 1.5, None, True)
TYPES = ("", "image", "image/png; charset=x", "IMAGE/PNG", "image/png\r\n", "a/b/c", "*/*", None)


@pytest.fixture
async def ben(backends):
    return await (await Caller(backends).register("ben")).log_in()


@pytest.mark.parametrize("case", ACTIVE)
async def test_what_a_browser_could_run_is_never_served_as_such(ann, case):
    """Nor what it would be harmed by: it comes as bytes of no type, to be saved."""
    name, kind, content = ACTIVE[case]
    file = await uploaded(ann, content, name=name, type=kind)
    got = await read(ann, file)

    assert got.content == content
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-disposition"].startswith("attachment; ")
    assert got.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_not_what_it_says_is_refused(ann, backends, case):
    """It cannot be read then, nor sent, and the store keeps nothing of it."""
    name, kind, content, field = REFUSED[case]
    new = (await announced(ann, content, name=name, type=kind)).json()
    assert (await put(ann, new["upload"], content)).status_code == 204
    assert problem(await complete(ann, new["file"])) == (400, "malformed", field)

    assert problem(await ann.get(f"/v1/files/{new['file']}"))[:2] == (404, "not_found")
    assert (await ann.get("/v1/files")).json() == {"files": []}


async def test_an_image_of_another_type_has_the_type_of_its_content(ann):
    """Systems go by names, which are often wrong; both are harmless."""
    file = await uploaded(ann, made.gif(), name="x.png", type="image/png")
    got = await read(ann, file)

    assert (got.content, got.headers["content-type"]) == (made.gif(), "image/gif")
    assert [one["type"] for one in (await ann.get("/v1/files")).json()["files"]] == ["image/gif"]


@pytest.mark.parametrize("case", NAMES)
async def test_a_name_that_is_none_is_refused(ann, case):
    """Before anything is stored."""
    body = {"name": NAMES[case], "bytes": 5, "type": "image/png", "purpose": "message"}
    content = ann_json(body)
    answer = await ann.call(
        "POST", "/v1/files", content=content, headers={"content-type": "application/json"}
    )

    # Half a character is no JSON.
    field = "body" if case == "half a character" else "name"
    assert problem(answer) == (400, "malformed", field), answer.text
    assert (await ann.get("/v1/files")).json() == {"files": []}


def ann_json(body):
    """Also with half a character, which httpx does not send."""
    import json  # noqa: PLC0415 - of this test

    return json.dumps(body).encode()


@pytest.mark.parametrize("case", ODD_NAMES)
async def test_a_name_stays_a_name(ann, case):
    """Nothing of it ends the header, or the quotes."""
    name = ODD_NAMES[case]
    got = await read(ann, await uploaded(ann, name=name))
    said = got.headers["content-disposition"]
    quoted, _, encoded = said.removeprefix('attachment; filename="').partition('"; filename*=')

    assert '"' not in quoted
    assert said.isascii()
    assert encoded.lower() == f"utf-8''{quote(name, safe='!#$&+-.^_`|~')}".lower()


@pytest.mark.parametrize("size", SIZES)
async def test_a_size_that_is_none_is_refused(ann, size):
    """By its field."""
    answer = await announced(ann, bytes=size)

    assert problem(answer)[1:] in {("malformed", "bytes"), ("too_large", "bytes")}


@pytest.mark.parametrize("kind", TYPES)
async def test_a_type_that_is_none_is_refused(ann, kind):
    """By its field."""
    assert problem(await announced(ann, type=kind)) == (400, "malformed", "type")


@pytest.mark.parametrize("purpose", ["", "Message", "public", None, 1])
async def test_a_purpose_that_is_none_is_refused(ann, purpose):
    """By its field."""
    assert problem(await announced(ann, purpose=purpose)) == (400, "malformed", "purpose")


@pytest.mark.parametrize("change", [-1, 1, -len(PNG), 10_000])
async def test_a_size_that_is_a_lie_is_refused(ann, change):
    """Shorter or longer than announced; nothing of it can be completed."""
    new = (await announced(ann)).json()
    content = (PNG + bytes(10_000))[: len(PNG) + change]

    assert problem(await put(ann, new["upload"], content))[:2] == (400, "malformed")
    assert problem(await complete(ann, new["file"]))[:2] == (404, "not_found")


async def test_another_type_than_announced_is_refused(ann):
    """It is signed."""
    new = (await announced(ann)).json()
    answer = await put(ann, new["upload"], **{"content-type": "text/html"})

    assert problem(answer) == (400, "malformed", "content-type")


ALTERED = {
    "of another file": lambda url, other: url.replace(*other),
    "of a complete file": lambda url, _: url.replace("/uploads/", "/files/"),
    "longer valid": lambda url, _: url.replace("expires=", "expires=9"),
    "of another size": lambda url, _: url.replace("bytes=", "bytes=1"),
    "of another type": lambda url, _: url.replace("image%2Fpng", "text%2Fhtml"),
    "without a signature": lambda url, _: url.partition("&signature=")[0],
    "with another signature": lambda url, _: url[:-4] + "0000",
    "with two sizes": lambda url, _: url + "&bytes=1",
    "with an empty signature": lambda url, _: url.partition("&signature=")[0] + "&signature=",
    "with a signature of no ASCII": lambda url, _: url[:-1] + "%C3%A9",
    "without anything": lambda url, _: url.partition("?")[0],
    "out of the folder": lambda url, _: url.replace("/uploads/", "/uploads/..%2F..%2F"),
    "of the key": lambda url, _: url.partition("?")[0].rpartition("/uploads")[0] + "/url-key/x",
}


@pytest.mark.parametrize("case", ALTERED)
async def test_an_altered_url_is_refused(ann, case):
    """For both methods; what was signed is that and nothing else."""
    new, other = (await announced(ann)).json(), (await announced(ann)).json()
    url = ALTERED[case](new["upload"]["url"], (new["file"], other["file"]))
    assert url != new["upload"]["url"]

    for method in ("PUT", "GET"):
        answer = await ann.call(
            method,
            path_of(url) if "?" in url else url,
            headers={"content-type": "image/png"},
            **({"content": PNG} if method == "PUT" else {}),
        )
        assert answer.status_code in {403, 404}, answer.text
    for file in (new["file"], other["file"]):
        assert problem(await complete(ann, file))[:2] == (404, "not_found")


async def test_a_url_is_good_for_its_method_alone(ann):
    """An upload's gives nothing, a download's takes nothing."""
    file, new = await uploaded(ann), (await announced(ann)).json()
    location = path_of((await ann.get(f"/v1/files/{file}")).headers["location"])
    await put(ann, new["upload"])

    assert (await ann.call("GET", path_of(new["upload"]["url"]))).status_code == 403
    answer = await ann.call("PUT", location, content=PNG, headers={"content-type": "image/png"})
    assert answer.status_code == 403
    assert (await read(ann, file)).content == PNG


async def test_files_of_others_can_be_neither_completed_nor_replaced(ann, ben):
    """A holder of the URL may upload; only its owner completes, and only once."""
    new = (await announced(ann)).json()
    assert (await put(ben, new["upload"])).status_code == 204
    assert problem(await complete(ben, new["file"]))[:2] == (404, "not_found")
    assert (await complete(ann, new["file"])).status_code == 200
    assert (await put(ben, new["upload"], b"x" * len(PNG))).status_code == 204

    assert (await read(ann, new["file"])).content == PNG


async def test_no_call_is_open_but_those_with_a_signature(backends, ann):
    """Without a token nothing is told."""
    file = await uploaded(ann)
    stranger = Caller(backends)

    for method, path in (
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", f"/v1/files/{file}"),
        ("POST", f"/v1/files/{file}/complete"),
    ):
        assert (await stranger.call(method, path)).status_code == 401


def test_there_are_as_many_hostile_ones_as_were_asked_for():
    """60 at least."""
    cases = (ACTIVE, REFUSED, NAMES, ODD_NAMES, SIZES, TYPES, ALTERED)

    assert sum(map(len, cases)) >= 60
