"""Certificates for tests: an authority, a base station's and devices', made by trustme and written as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pem:
    """A certificate chain and its key."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.pem = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.pem)

    def issue(self, *identities: str, common_name: str | None = None) -> Pem:
        """A certificate for names or addresses."""
        issued = self._ca.issue_cert(*identities, common_name=common_name)
        stem = self._folder / f"{self.pem.stem}-{identities[0].replace(':', '_')}"
        pem = Pem(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        pem.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pem.key)
        pem.key.chmod(0o600)
        return pem
