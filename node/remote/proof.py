"""The last look before anything leaves: are the finished bytes free of every identifying value of the study?

It knows nothing of how the request was made. Whatever text stands in the bytes is read in every way a receiver might read
it: as it is, as JSON says it, and where it is base64, decoded. Pictures must be pixels and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from models.picture import read_png
from models.remote_errors import IdentityInRequest
from node.remote.identity_values import IdentityValues

_PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")


def prove(body: bytes, identity: IdentityValues) -> list[bytes]:
    """Search a request for every identifying value.

    Parameters
    ----------
    body : bytes
        Exactly what would be sent.

    Returns
    -------
    list of bytes
        The pictures in it, each proven to be pixels without metadata.

    Raises
    ------
    IdentityInRequest
        Naming the kind of value found, never the value.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise IdentityInRequest("the request is not JSON and cannot be searched") from error
    strings = list(_strings(document))
    pictures = [_picture(each) for text in strings for each in _PICTURE.findall(text)]
    words = [_PICTURE.sub("", text) for text in strings]
    raw = _PICTURE.sub("", body.decode("utf-8"))
    for text in (raw, "\n".join(words), *words, *_decoded(words)):
        if kinds := identity.found_in(text):
            raise IdentityInRequest(f"the request holds {_list(kinds)}", kinds=list(kinds))
    for content in (*pictures, *(read_png(each).tobytes() for each in pictures)):
        for kind, value in identity.raw:
            if value in content:
                raise IdentityInRequest(f"a picture holds {_list((kind,))} as bytes", kinds=[kind])
    return pictures


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _picture(encoded: str) -> bytes:
    try:
        content = base64.b64decode(encoded, validate=True)
        read_png(content)
    except ValueError as error:
        raise IdentityInRequest(f"a picture in the request is no plain PNG ({error})") from error
    return content


def _decoded(words: list[str]) -> Iterator[str]:
    """What stretches of base64 say."""
    for text in words:
        for stretch in _BASE64.findall(text):
            try:
                content = base64.b64decode(stretch.replace("-", "+").replace("_", "/") + "===")
            except (binascii.Error, ValueError):
                continue
            for encoding in ("utf-8", "shift_jis", "utf-16-le"):
                yield content.decode(encoding, errors="ignore")


def _list(kinds: tuple[str, ...]) -> str:
    return ", ".join(f"a {kind}" if kind != "identifier" else "an identifier" for kind in kinds)
