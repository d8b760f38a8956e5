"""A chat request as the bytes that go on the wire."""

from __future__ import annotations

import base64
import json
from typing import Any

from node.settings import EndpointSection


def request_body(
    endpoint: EndpointSection,
    *,
    system: str,
    parts: list[str | bytes],
    maximum_tokens: int,
    temperature: float,
    seed: int | None,
) -> bytes:
    """JSON of ``/chat/completions``.

    Parameters
    ----------
    parts : list of str or bytes
        Words and PNG files, in order.
    """
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        else:
            url = f"data:image/png;base64,{base64.b64encode(part).decode('ascii')}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    only_text = all(isinstance(part, str) for part in parts)
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [
            {"role": "system", "content": system},
            # Servers of text models take a plain string only.
            {"role": "user", "content": "".join(str(part) for part in parts) if only_text else content},
        ],
        "max_tokens": maximum_tokens,
        "temperature": temperature,
        "stream": False,
    }
    if seed is not None:
        body["seed"] = seed
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
