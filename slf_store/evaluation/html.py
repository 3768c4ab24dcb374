"""HTML that cannot hold unescaped text: strings are text, only :class:`Html` is markup."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

VOID = frozenset({"img", "meta", "br"})
"""Elements that hold nothing and are not closed."""
LONG = 120
"""Letters of a fact that has a line of its own."""


class Html(str):
    """Markup, made by the functions of this file only."""


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element; content that is not :class:`Html` is escaped, and so is every attribute.

    A trailing underscore of an attribute is left off (`class_`), inner ones become hyphens; None leaves it out.

    >>> tag("p", "a < b", tag("b", "!"), class_="note")
    '<p class="note">a &lt; b<b>!</b></p>'
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{join(*content)}</{name}>")


def join(*content: object) -> Html:
    """Several pieces one after the other, text escaped.

    >>> join("<", tag("br"))
    '&lt;<br>'
    """
    return Html("".join(str(piece) if isinstance(piece, Html) else escape(str(piece)) for piece in content))


def facts(pairs: Sequence[tuple[str, object]]) -> Html:
    """A list of names and what they stand for; what is long has a line of its own."""

    def fact(name: str, value: object) -> Html:
        return tag("div", tag("dt", name), tag("dd", value), class_="wide" if len(str(value)) > LONG else None)

    return tag("dl", *(fact(*pair) for pair in pairs))


def png_image(data: bytes, alt: str) -> Html:
    """A PNG inside the page.

    >>> png_image(b"", "a face")
    '<img src="data:image/png;base64," alt="a face" loading="lazy">'
    """
    return tag("img", src=f"data:image/png;base64,{base64.b64encode(data).decode()}", alt=alt, loading="lazy")
