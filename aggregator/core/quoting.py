"""How answers repeat what was sent: cut where it is long, and safe to show."""

_LONGEST = 100


def cut(text: str, longest: int = _LONGEST) -> str:
    """The text, or as many characters of it as are worth showing."""
    return text if len(text) <= longest else text[:longest] + "…"


def quoted(text: str) -> str:
    """The text in quotes, cut; what does not print, or is not Unicode, is escaped."""
    return repr(cut(text))
