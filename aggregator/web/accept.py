"""In which form to answer: the one that a request likes best (RFC 9110, 12.5.1)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from aggregator.errors import NotAcceptable

_RANGE = re.compile(r"\s*([^\s;/,]+/[^\s;/,]+)\s*(;.*)?", re.DOTALL)
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)


class _Range(NamedTuple):
    pattern: str
    weight: float


def chosen(request: web.Request, forms: Sequence[str]) -> str:
    """The media type, of those there are, that the request accepts best; of equals the first.

    A request that says nothing takes anything. Raises NotAcceptable.
    """
    said = ",".join(request.headers.getall("Accept", []))
    ranges = [found for part in said.split(",") if (found := _range(part))]
    if not ranges:
        return forms[0]
    weights = {form: _weight(form, ranges) for form in forms}
    best = max(forms, key=weights.__getitem__)
    if not weights[best]:
        raise NotAcceptable(f"{request.path} is answered as {', '.join(forms)}, not as {said}.")
    return best


def _range(part: str) -> _Range | None:
    """What one part of the header says; None where it says nothing that can be read."""
    match = _RANGE.fullmatch(part)
    if not match:
        return None
    weight = _WEIGHT.search(match[2] or "")
    return _Range(match[1].lower(), float(weight[1]) if weight else 1.0)


def _weight(form: str, ranges: Sequence[_Range]) -> float:
    """How well the form is liked, by the most precise of the ranges that it is in."""
    kind = form.partition("/")[0]
    for pattern in (form, f"{kind}/*", "*/*"):
        weights = [found.weight for found in ranges if found.pattern == pattern]
        if weights:
            return max(weights)
    return 0.0
