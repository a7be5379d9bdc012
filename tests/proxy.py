"""A TCP proxy between a device and a base station that loses, delays, cuts off and resets what passes."""

from __future__ import annotations

import contextlib
import enum
import errno
import socket
import struct
import threading
import time

from uihlm_proto.addresses import Address

_CHUNK = 65536
_HUNG_UP = {errno.ECONNRESET, errno.EPIPE, errno.EBADF, errno.ENOTCONN, errno.ESHUTDOWN}


class Fault(enum.Enum):
    """What becomes of a connection at its fault."""

    RESET = "both ends get a reset, the chunk is lost"
    CLOSE = "both ends are closed, the chunk is lost"
    TRUNCATE = "half of the chunk passes, then both ends are closed"
    DROP = "nothing passes any more, and nobody is told"
    DELAY = "the chunk passes late"


class Proxy:
    """Forwards connections to a base station.

    Attributes:
        address: where it listens.
        fault: what happens; None forwards everything.
        every: at every so many chunks that come back from the base station on one connection.
        delay_s: of Fault.DELAY.
        faults: how many there were.
    """

    def __init__(self, target: Address, fault: Fault | None = None, every: int = 8, delay_s: float = 0.05) -> None:
        self.target = target
        self.fault, self.every, self.delay_s = fault, every, delay_s
        self.faults = 0
        self._up = True
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def sever(self, fault: Fault = Fault.RESET) -> None:
        """Break every connection now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.apply(fault)

    def away(self) -> None:
        """Break every connection, and refuse others until `back`."""
        self._up = False
        self.sever()

    def back(self) -> None:
        """Accept connections again."""
        self._up = True

    def close(self) -> None:
        # Wakes the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.sever()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((self.target.host, self.target.port), timeout=5)
            except OSError:
                far = None
            if far is None or not self._up:
                _reset(near)
                if far is not None:
                    far.close()
                continue
            far.settimeout(None)
            pair = _Pair(self, near, far)
            with self._lock:
                self._pairs.add(pair)
            for source, sink, comes_back in ((near, far, False), (far, near, True)):
                threading.Thread(target=pair.pump, args=(source, sink, comes_back), daemon=True).start()

    def _gone(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)


class _Pair:
    """One connection and its other half."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._silent = False

    def pump(self, source: socket.socket, sink: socket.socket, comes_back: bool) -> None:
        chunks = 0
        try:
            while chunk := source.recv(_CHUNK):
                chunks += comes_back
                fault = self._proxy.fault
                if fault is not None and comes_back and chunks % self._proxy.every == 0:
                    self._proxy.faults += 1
                    if fault is Fault.DELAY:
                        time.sleep(self._proxy.delay_s)
                    else:
                        if fault is Fault.TRUNCATE:
                            sink.sendall(chunk[: len(chunk) // 2])
                        self.apply(fault)
                        if fault is not Fault.DROP:
                            return
                if not self._silent:
                    sink.sendall(chunk)
        except OSError as error:
            # Either end hung up, or a fault closed both under the reader: that is the end of this pair, and no more than that.
            if error.errno not in _HUNG_UP:
                raise
        self.apply(Fault.CLOSE)

    def apply(self, fault: Fault) -> None:
        if fault is Fault.DROP:
            self._silent = True
            return
        self._proxy._gone(self)
        for end in self._ends:
            if fault is Fault.RESET:
                _reset(end)
            else:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def _reset(end: socket.socket) -> None:
    """Close a socket without a farewell."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Wakes whoever reads it in another thread.
        end.shutdown(socket.SHUT_RD)
    end.close()
