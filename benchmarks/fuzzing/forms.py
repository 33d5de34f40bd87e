"""Forms that a browser sends to `mnerkit demo`: the type of the content in the first line, then the form."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from fuzzing.reader import Reader
from mnerkit.demo.forms import read_form

END = b"\r\n"


def form(draw: Random) -> bytes:
    boundary = draw.choice(("xx", "----WebKitFormBoundary7MA4YWxkTrZu0gW"))
    fields = [
        (b'name="text"', draw.choice((b"Ann Lee", "東京".encode(), b"", b"two\r\nlines"))),
        (b'name="caption"', b"a cat"),
        *((b'name="picture"; filename="a.png"\r\nContent-Type: image/png', draw.randbytes(40)) for _ in range(2)),
    ][: draw.randint(1, 4)]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; ".encode() + head + 2 * END + content + END
        for head, content in fields
    )
    return f"multipart/form-data; boundary={boundary}\r\n".encode() + body + f"--{boundary}--\r\n".encode()


def read_fields(path: Path) -> Any:
    kind, _, body = path.read_bytes().partition(END)
    return [(part.name, part.content) for part in read_form(body, kind.decode("latin-1"))]


def plain_fields(path: Path) -> Any:
    """Line by line, as RFC 2046 says: what precedes the first boundary and follows the last is nobody's."""
    kind, *lines = path.read_bytes().split(END)
    boundary = kind.split(b"=", 1)[1].strip().strip(b'"')
    parts: list[list[bytes]] = []
    ended = False
    for line in lines:
        if line.startswith(b"--" + boundary) and not ended:
            rest = line[2 + len(boundary) :]
            ended = rest.startswith(b"--")
            assert ended or not rest.strip(b" \t"), "a boundary goes on"
            parts += [] if ended else [[]]
        elif parts and not ended:
            parts[-1].append(line)
    assert ended
    found = []
    for part in parts:
        at = part.index(b"")
        (head,) = (head for head in part[:at] if head.lower().startswith(b"content-disposition:"))
        cells = head.split(b'"')
        names = [cell.strip(b"; \t").lower() for cell in cells[0::2]]
        assert names[0].endswith(b"name=") and b"name=" not in names[1:]
        found.append((cells[1].decode(errors="replace"), END.join(part[at + 1 :])))
    return found


READERS = (Reader("forms", "form.bin", "lines", form, read_fields, plain_fields),)
