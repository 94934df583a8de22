"""Numbers as JSON spells them, however large: equal ones in one spelling."""

import re

_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4000}))?")


def canonical(spelling: str) -> str:
    """The number with every digit of it: 10, 10.0 and 1e1 are all 1e1.

    An exponent of more than 4,000 digits is left as it is spelled.
    """
    parts = _PARTS.fullmatch(spelling)
    if not parts:
        return spelling
    sign, whole, fraction, exponent = parts.groups(default="")
    significant = (whole + fraction).lstrip("0")
    stripped = significant.rstrip("0")
    if not stripped:
        return "0"
    tens = int(exponent or "0") - len(fraction) + len(significant) - len(stripped)
    return f"{sign}{stripped}e{tens}"
