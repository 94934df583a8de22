"""Links of the docs to code: each is shown as the name of what is there."""

import ast
import re
from pathlib import Path

FUNCTION = re.compile(r"\[`([\w.]+)`\]\(\.\./([\w/]+\.py)\)")
"""Its name, and the file from the root of the repository."""


def defined(path: Path) -> set[str]:
    """The functions and classes of a file, and what is in these as `Class.member`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{getattr(one, 'name', '')}" for one in node.body}
    return found
