"""The publisher is installed, the benchmark is not: it measures checkouts."""

from configparser import ConfigParser
from pathlib import Path

from loadgen import bench

ROOT = Path(__file__).parents[2]


def test_benchmark_is_run_from_a_checkout_only() -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    packages = config["options"]["packages"].split()
    assert [name for name in packages if name.startswith("loadgen")] == ["loadgen"]
    assert not [name for name in config["options.package_data"] if name.startswith("loadgen")]
    assert Path(bench.__file__).parent == ROOT / "loadgen" / "bench"
