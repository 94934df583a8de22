"""URI references (RFC 3986), as which CloudEvents want to know where they come from."""

import re
from urllib.parse import quote

_IN_A_URI = ":/?#[]@!$&'()*+,;=%~"
_ESCAPED = "%[0-9A-Fa-f]{2}"
_NAME = rf"(?:[\w.~!$&'()*+,;=-]|{_ESCAPED})"
_USER = rf"(?:[\w.~!$&'()*+,;=:-]|{_ESCAPED})*"
_CHARACTER = rf"(?:[\w.~!$&'()*+,;=:@-]|{_ESCAPED})"
_NO_COLON = rf"(?:[\w.~!$&'()*+,;=@-]|{_ESCAPED})"
_MORE = rf"(?:/{_CHARACTER}*)*"
_AUTHORITY = rf"//(?:{_USER}@)?(?:\[[0-9A-Fa-f:.]+\]|{_NAME}*)(?::[0-9]*)?{_MORE}"
_ABSOLUTE = rf"/(?:{_CHARACTER}+{_MORE})?"
_TAIL = rf"(?:\?(?:{_CHARACTER}|[/?])*)?(?:#(?:{_CHARACTER}|[/?])*)?"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}|{_ABSOLUTE}|{_CHARACTER}+{_MORE}|)"
    rf"|{_AUTHORITY}|{_ABSOLUTE}|{_NO_COLON}+{_MORE}|){_TAIL}",
    re.ASCII,
)


def reference(text: str) -> str:
    """The text as a URI reference: itself if it is one, and else with what is none escaped.

    That is what an IRI has beyond a URI, such as letters outside ASCII; if that does not make it
    one, then everything but letters, digits and slashes.
    """
    mapped = quote(text, safe=_IN_A_URI)
    return mapped if _REFERENCE.fullmatch(mapped) else quote(text, safe="/")
