"""Certificates for 127.0.0.1, made by openssl."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Pair(NamedTuple):
    """The files of a certificate that signs itself, and of its key."""

    cert: Path
    key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        """Of `aggregator serve`."""
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)

    @property
    def trusted(self) -> ssl.SSLContext:
        """For a client that trusts it alone."""
        return ssl.create_default_context(cafile=str(self.cert))

    def put_in_place_of(self, other: "Pair") -> None:
        """As who renews a certificate does."""
        for own, old in zip(self, other, strict=True):
            os.replace(own, old)


def make_pair(folder: Path, name: str = "one", passphrase: str = "") -> Pair:
    """A new pair; skips where there is no openssl."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2"),
            *(("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(pair.key), "-out", str(pair.cert)),
        ],
        check=True,
        capture_output=True,
    )
    return pair
