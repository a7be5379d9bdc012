"""On a modelled link a request's bytes are made by who weighs it, and sent as they are."""

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from uihlm_device.stream import channel
from uihlm_proto import encoded
from uihlm_wireless.clock import EnforcedClock

V = 48


@pytest.mark.parametrize("enforced", [False, True])
def test_no_request_is_serialised_twice(monkeypatch, enforced):
    found = []

    def bytes_of(request):
        kept = encoded._HERE.kept
        found.append(kept is not None and kept[0] is request)
        return encoded.bytes_of(request)

    monkeypatch.setattr(channel, "bytes_of", bytes_of)
    x = contextual(V, 1)
    clock = {"clock": EnforcedClock()} if enforced else {}
    with serving(FakeEngine(x, V)) as address, Bench(address, FakeDrafter(x, V), "dense32", **clock) as bench:
        assert len(bench.run("hlm", (1, 2, 3), max_tokens=9)) == 9
    # In real time the first upload may be weighed before Open is sent: then both are made again.
    assert len(found) == 10 and all(found[2 if enforced else 0 :])
