"""What the docs show, as it stands in their fences."""

import re


def blocks(text: str, language: str) -> list[str]:
    """The contents of every block in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
