"""A distribution of somebody else's, as its files stand once it is installed."""

from pathlib import Path


def install(folder: Path, name: str, module: str, entry_points: str) -> dict[str, str]:
    """Write it into the folder; the environment of a process that has it installed."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    (folder / f"{name}.py").write_text(module)
    return {"PYTHONPATH": str(folder)}
