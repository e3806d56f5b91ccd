"""Names that mislead, break out of where they stand, or cannot be a file's."""

from __future__ import annotations

from schemas.file_names import MAX_FILE_NAME_BYTES

REFUSED = {
    "empty": "",
    "white space": " \u3000\t",
    "invisible": "\u200b\u2060",
    "NUL": "a\0.png",
    "line feed": "a\nContent-Type: text/html",
    "carriage return": "a\r\nX: y.png",
    "next line": "a\u0085b.png",
    "line separator": "a\u2028b.png",
    "escape": "\x1b[2Ja.txt",
    "right to left override": "photo\u202egnp.exe",
    "right to left isolate": "photo\u2067gnp.exe",
    "left to right mark": "a\u200e.png",
    "slash": "a/b.png",
    "up": "../../etc/passwd",
    "backslash": "..\\..\\boot.ini",
    "drive": "C:\\boot.ini",
    "wide slash": "a\uff0fb.png",
    "division slash": "a\u2215b.png",
    "dot": ".",
    "two dots": "..",
    "dot at the end": "run.exe.",
    "dot and blank at the end": "run.exe. ",
    "CON": "CON",
    "nul with extensions": "nul.tar.gz",
    "com1": "com1.txt",
    "com with a superscript": "COM\u00b9.txt",
    "device, blank, extension": "aux .txt",
    "half a surrogate pair": "a\ud800.png",
    "too long": "a" * (MAX_FILE_NAME_BYTES + 1),
    "too long in bytes": "\u00e9" * (MAX_FILE_NAME_BYTES // 2 + 1),
}
