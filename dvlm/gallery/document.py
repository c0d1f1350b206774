"""An HTML document that a browser shows without loading anything: style inside, and at most the script given here."""

from __future__ import annotations

import base64
import hashlib

from dvlm.gallery.markup import Html, tag
from dvlm.gallery.style import STYLE


def document(title: str, *body: str, style: str = "", script: str = "", refresh: float | None = None) -> str:
    """The page of these parts. `style` follows the common style sheet; of scripts only `script` runs, whatever the data
    says; `refresh` loads the page anew after so many seconds."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", http_equiv="refresh", content=f"{refresh:g}") if refresh else "",
        tag("title", title),
        tag("style", Html(STYLE + style)),
    )
    scripts = [tag("script", Html(script))] if script else []
    return "<!doctype html>\n" + tag("html", head, tag("body", *body, *scripts), lang="en") + "\n"
