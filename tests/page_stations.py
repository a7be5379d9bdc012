"""The base stations that a page's commands are sent to, with the credentials the page speaks of, all on loopback."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from certificates import Authority
from page_pairs import Engines
from pages import Command
from stations import standing
from uihlm_basestation.observing.metrics import PATH, PrometheusTelemetry, exposed
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_proto.bearer import find_tokens
from uihlm_proto.token_set import TokenSet

TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
# Names the file of the authorities that `--tls` alone believes; gRPC reads the variable when it starts, the file later.
ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"


def write_credentials(folder: Path, roots: Path | None) -> None:
    """Write the certificates, keys and tokens by the names that pages give them, and the authority that all believe to `roots`.

    Told by whoever starts this process and not read from ROOTS_VARIABLE: that may name the machine's own file.
    """
    for authority, stem, names in (("ca", "bs", ("localhost", "127.0.0.1")), ("devices-ca", "device", ("device-a",))):
        pem = Authority(folder, authority).issue(*names)
        pem.certificate.rename(folder / f"{stem}.pem")
        pem.key.rename(folder / f"{stem}.key")
    if roots is not None:
        # The page's own authority is a well-known one here.
        shutil.copy(folder / "ca.pem", roots)
    for name in ("token.txt", "tokens.txt"):
        (folder / name).write_text(f"{TOKEN}\n")
        (folder / name).chmod(0o600)


class Stations:
    """Starts a base station of each kind that is asked for, once; a context manager that ends them all."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._stack = contextlib.ExitStack()
        self._addresses: dict[tuple[str, bool], str] = {}
        self._metrics: str | None = None

    def __enter__(self) -> Stations:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def of(self, command: Command) -> str:
        """The address of one that asks for what the command shows, and lets in nobody who shows less."""
        way = "plain"
        if {"--tls", "--tls-ca", "--tls-cert"} & set(command.words):
            way = "mtls" if "--tls-cert" in command.words else "tls"
        return self._at(way, "--token-file" in command.words or "UIHLM_TOKEN" in dict(command.environment))

    @property
    def metrics(self) -> str:
        """The metrics page of the one without credentials."""
        self._at("plain", False)
        assert self._metrics is not None
        return self._metrics

    def _at(self, way: str, tokens: bool) -> str:
        if (way, tokens) not in self._addresses:
            self._addresses[way, tokens] = self._stack.enter_context(self._started(way, tokens))
        return self._addresses[way, tokens]

    @contextlib.contextmanager
    def _started(self, way: str, tokens: bool) -> Iterator[str]:
        tls = None
        if way != "plain":
            tls = TlsFiles(Path("bs.pem"), Path("bs.key"), Path("devices-ca.pem") if way == "mtls" else None)
        known = TokenSet(find_tokens(Path("tokens.txt"), None)) if tokens else None
        telemetry = PrometheusTelemetry("the page's")
        with (
            exposed(telemetry, "127.0.0.1", 0) as page,
            standing(self._engines(), telemetry=telemetry, trust=Trust(tls=tls, tokens=known)) as station,
        ):
            if (way, tokens) == ("plain", False):
                self._metrics = f"http://{page}{PATH}"
            yield str(station.address)
