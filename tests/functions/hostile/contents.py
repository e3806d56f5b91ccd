"""Contents that are hostile, or not what is said of them."""

from __future__ import annotations

from functions.domain.contents import HEAD_BYTES
from functions.domain.file_types import UNKNOWN
from tests.functions import file_contents as made

# What a browser, or a system, could run.
ACTIVE = {
    "html": made.HTML,
    "html in capitals": made.HTML.upper(),
    "html behind white space": b" \r\n\t\n" + made.HTML,
    "html behind a comment": b"<!-- GIF89a -->" + made.HTML,
    "html behind a comment without an end": b"<!-- " + made.HTML,
    "html with a mark": b"\xef\xbb\xbf" + made.HTML,
    "html in UTF-16": made.HTML.decode().encode("utf-16"),
    "html in UTF-16 without a mark": made.HTML.decode().encode("utf-16-le"),
    "html of one script": b"<script>alert(1)</script>",
    "html of an image": b"<img src=x onerror=alert(1)>",
    "html with NULs": b"<html>\0\0<script>alert(1)</script>",
    "html behind binary": b"\1\2\3<html><script>alert(1)</script>",
    "html longer than the head": made.HTML + b"a" * HEAD_BYTES,
    "html cut in a character": made.HTML + "\u00e9".encode() * HEAD_BYTES,
    "svg": made.SVG,
    "svg with a prefix": b'<x:svg xmlns:x="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "svg behind a declaration": b'<?xml version="1.0"?><!DOCTYPE svg>' + made.SVG,
    "xhtml": made.XHTML,
    "xml with a style sheet": b'<?xml version="1.0"?><?xml-stylesheet href="a.xsl"?><a/>',
    "xml without a declaration": b"<a><b/></a>",
    "mhtml": made.MHTML,
    "pdf": made.PDF,
    "pdf with a script": made.SCRIPTED_PDF,
    "pdf behind binary": b"\0\1\2" + made.PDF,
    "flash": made.SWF,
    "program": made.EXE,
    "elf": made.ELF,
    "java archive": made.archive({"META-INF/MANIFEST.MF": b""}),
    "document": made.docx(),
    "shell script": b"#!/bin/sh\nrm -rf /\n",
    "postscript": b"%!PS-Adobe-3.0\n",
    "rtf": b"{\\rtf1 }",
}

LIES = {
    # content, name, declared, the field that is named
    "page as an image": (made.HTML, "a.png", "image/png", "type"),
    "page called an image": (made.HTML, "a.png", "text/html", "name"),
    "page called an image, undeclared": (made.HTML, "a.jpg", UNKNOWN, "name"),
    "drawing as a bitmap": (made.SVG, "a.png", "image/png", "type"),
    "image as a page": (made.png(), "a.html", "text/html", "type"),
    "image called a page": (made.png(), "a.html", "image/png", "name"),
    "image called a drawing": (made.png(), "a.svg", "image/png", "name"),
    "image as a document": (made.gif(), "a.pdf", "application/pdf", "type"),
    "image called a document": (made.gif(), "a.pdf", "image/gif", "name"),
    "archive as a text": (made.archive({"a": b"1"}), "a.txt", "text/plain", "type"),
    "text as a drawing": (b"hello", "a.svg", "image/svg+xml", "type"),
    "program as a document": (made.EXE, "a.pdf", "application/pdf", "type"),
    "program called a document": (made.EXE, "a.pdf", UNKNOWN, "name"),
    "two extensions": (made.EXE, "invoice.pdf.exe", UNKNOWN, "name"),
    "two extensions and blanks": (made.EXE, "photo.jpg" + " " * 99 + ".exe", UNKNOWN, "name"),
    "two extensions, a page": (made.HTML, "photo.jpg.html", "text/html", "name"),
    "two extensions, a script": (b"alert(1)", "report.docx.js", "text/javascript", "name"),
    "unknown as an image": (bytes(range(256)), "a.png", "image/png", "type"),
    "no type": (b"a", "a", "", "type"),
    "a type with a line": (b"a", "a", "text/plain\r\nX-A: b", "type"),
    "a type in a type": (b"a", "a", "text/html,image/png", "type"),
    "pdf in an image": (made.jpeg(comment=made.PDF), "a.jpg", "image/jpeg", "content"),
    "page in an image": (made.gif(comment=made.HTML), "a.gif", "image/gif", "content"),
    "page in a PNG's text": (
        made.png(extra=made.chunk(b"tEXt", b"a\0" + made.HTML)), "a.png", "image/png", "content",
    ),
    "GIFAR": (
        made.gif() + made.archive({"A.class": b"\xca\xfe"}), "a.gif", "image/gif", "content",
    ),
    "PNG and ZIP with a comment": (
        made.png() + made.archive({"a": b"1"}, comment=b"c" * 60_000),
        "a.png", "image/png", "content",
    ),
    "PDF and ZIP": (
        made.PDF + made.archive({"a": b"1"}), "a.pdf", "application/pdf", "content",
    ),
    "video and ZIP and more": (
        made.MP4 + made.archive({"a": b"1"}) + b"\0" * 99, "a.mp4", "video/mp4", "content",
    ),
}  # fmt: skip
