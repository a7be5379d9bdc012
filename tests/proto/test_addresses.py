"""What counts as this machine: wrongly said yes, a token would cross the network in the clear."""

import pytest

from uihlm_proto.addresses import is_loopback, target_is_loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"]
)
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.0.7", "10.0.0.1", "8.8.8.8", "example.com", "localhost.example.com", "127.0.0.1.nip.io",
     "127.1", "0x7f000001", "fe80::1", "::ffff:8.8.8.8", "2130706433"],
)  # fmt: skip
def test_any_other_machine(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1:50051", "localhost:1", "[::1]:50", "::1", "localhost", "dns:///localhost:50", "dns:localhost:50",
     "dns://8.8.8.8/localhost:50", "ipv4:127.0.0.1:50", "ipv6:[::1]:50", "unix:/tmp/s", "unix-abstract:s",
     "ipv4:127.0.0.1:50,127.0.0.2:51"],
)  # fmt: skip
def test_targets_on_this_machine(target):
    assert target_is_loopback(target)


@pytest.mark.parametrize(
    "target",
    ["192.0.2.7:50051", "bs.example:50051", "dns:///bs.example:50", "dns://127.0.0.1/bs.example:50", "ipv4:8.8.8.8:50",
     "ipv4:127.0.0.1:50,8.8.8.8:50", "xds:///localhost", "https://localhost", "localhost@bs.example:50", "0.0.0.0:50", ":50"],
)  # fmt: skip
def test_targets_elsewhere_or_unclear(target):
    assert not target_is_loopback(target)
