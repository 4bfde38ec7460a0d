"""The SVG of a figure as part of an HTML page: with the page's fonts and colours, with tooltips and unique ids."""

from __future__ import annotations

import re
from html import escape

from visionbench.report.drawing import THEME, TIP

VARIABLES = {light.lower(): f"var(--{name})" for name, (light, _) in THEME.items()}
"""The CSS variable of each colour of the figures."""
TAG = re.compile(r"<[^>]+>")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
IDENTIFIER = re.compile(r' id="([^"]*)"')
REFERENCE = re.compile(r'(?:url\(#|href="#)([^")]+)')
LONG_NUMBER = re.compile(r"(\d+\.\d{2})\d+")
LEFT_OUT = (
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"<style.*?</style>", re.DOTALL),
    re.compile(r"<defs>\s*</defs>"),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r' (?:xmlns(?::\w+)?|version)="[^"]*"'),
)
"""Parts without an effect inside HTML, and the style, which would hold for the complete page."""
OPENING = re.compile(r"<svg\b[^>]*>")
VIEW_BOX = re.compile(r'viewBox="([^"]*)"')
FONT_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")


def inline(svg: bytes, key: str, label: str) -> str:
    """Return the SVG of a figure as an element of a page.

    Args:
        svg: The bytes that `drawing.svg` returned.
        key: A text that no other figure of the page has; it begins the ids.
        label: The name of the figure for screen readers.
    """
    text = svg.decode()
    for pattern in LEFT_OUT:
        text = pattern.sub("", text)
    text = text.replace("xlink:href", "href")
    referenced = set(REFERENCE.findall(text))
    text = IDENTIFIER.sub(lambda match: _identifier(match.group(1), key, referenced), text)
    text = REFERENCE.sub(lambda match: match.group(0).replace(match.group(1), f"{key}-{match.group(1)}"), text)
    text = re.sub(r'<g data-tip="([^"]*)">', r"<g><title>\1</title>", text)
    text = TAG.sub(lambda match: _themed(match.group()), text)
    view = VIEW_BOX.search(text)
    opening = f'<svg role="img" aria-label="{escape(label)}" viewBox="{view.group(1) if view else ""}">'
    text = OPENING.sub(lambda _: opening, text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()


def _themed(tag: str) -> str:
    """Return a tag with the variables of colours, without font names, and with two decimals."""
    tag = COLOUR.sub(lambda match: VARIABLES.get(match.group().lower(), match.group()), FONT_FAMILY.sub("", tag))
    return LONG_NUMBER.sub(r"\1", tag)


def _identifier(name: str, key: str, referenced: set[str]) -> str:
    """Return the attribute for an id: a tooltip, a unique id, or nothing if the id has no use."""
    if name.startswith(TIP):
        return f' data-tip="{name.removeprefix(TIP)}"'
    return f' id="{key}-{name}"' if name in referenced else ""
