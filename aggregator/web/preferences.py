"""What a publisher prefers (RFC 7240, the header Prefer), as far as it is known here."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Possessive, and a quote that never closes is taken to the end: no header is gone through twice.
_PREFERENCE = re.compile(r'(?:[^",]++|"(?:\\.|[^"\\])*+(?:"|\\?\Z))++', re.DOTALL)
_APPLIED = "Preference-Applied"


@dataclass(frozen=True)
class Preferences:
    """Preferences that are not known, or have a value that is not, are passed over."""

    is_strict: bool = False
    is_lenient: bool = False
    is_minimal: bool = False
    is_async: bool = False

    @classmethod
    def of(cls, headers: Sequence[str]) -> "Preferences":
        """Read the headers; of a preference that is given twice the first one counts."""
        if not headers:
            return NONE
        given: dict[str, str] = {}
        for name, value in _given(headers):
            given.setdefault(name, value)
        is_strict = given.get("handling") == "strict"
        return cls(
            is_strict=is_strict,
            is_lenient=given.get("handling") == "lenient",
            is_minimal=given.get("return") == "minimal",
            is_async=given.get("respond-async") == "" and not is_strict,
        )

    @property
    def applied(self) -> dict[str, str]:
        """The header that says which of them were kept."""
        kept = {
            "respond-async": self.is_async,
            "return=minimal": self.is_minimal and not self.is_async,
            "handling=strict": self.is_strict,
            "handling=lenient": self.is_lenient,
        }
        told = ", ".join(name for name, is_kept in kept.items() if is_kept)
        return {_APPLIED: told} if told else {}


NONE = Preferences()
"""Those of a request that says nothing of them."""


def _given(headers: Sequence[str]) -> Iterator[tuple[str, str]]:
    for preference in _PREFERENCE.findall(",".join(headers)):
        name, _, value = preference.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().strip('"').lower()
