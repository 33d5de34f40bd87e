"""Forms that a browser sends: `multipart/form-data` (RFC 7578), as much of it as browsers use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnerkit.errors import DataError

MOST_PARTS = 20
_BOUNDARY = re.compile(r"""multipart/form-data\s*;\s*boundary=("?)([\w'()+,./:=? -]{1,70})\1\s*""", re.IGNORECASE)
_NAME = re.compile(
    rb"""content-disposition:\s*form-data\s*;\s*name="([^"]*)"(?:\s*;\s*filename\*?=(?:"[^"]*"|[^";\s]+))*\s*""",
    re.IGNORECASE,
)
_MOST_HEAD = 4_000  # bytes; names of files are the longest part


@dataclass(frozen=True)
class Part:
    """A field of a form: its name and content."""

    name: str
    content: bytes


def read_form(body: bytes, content_type: str) -> list[Part]:
    """The fields of a form, in its order.

    Raises:
        DataError: not a form of this kind, or a damaged one.
    """
    boundary = _BOUNDARY.fullmatch(content_type)
    if boundary is None:
        raise DataError("expected a form (multipart/form-data).")
    line = b"\r\n--" + boundary[2].encode()
    _, *parts = (b"\r\n" + body).split(line, MOST_PARTS + 1)
    fields: list[Part] = []
    for part in parts:
        if part.startswith(b"--"):  # what follows the last boundary is no part of the form
            return fields
        fields.append(_part(part))
    raise DataError(f"the form is damaged, or has more than {MOST_PARTS} fields.")


def _part(part: bytes) -> Part:
    head, empty_line, content = part.partition(b"\r\n\r\n")
    rest_of_boundary, *lines = head[:_MOST_HEAD].split(b"\r\n")
    disposition = [line for line in lines if line[:20].lower() == b"content-disposition:"]
    name = _NAME.fullmatch(disposition[0]) if len(disposition) == 1 else None
    if name is None or not empty_line or rest_of_boundary.strip(b" \t") or len(head) > _MOST_HEAD:
        raise DataError("a field of the form is damaged, or has no name.")
    return Part(name[1].decode(errors="replace"), content)
