"""What was spent in vain is carried by one token, whole and once."""

from uihlm_device.charges import NOTHING, Charge, Purse
from uihlm_device.stream.session import Cost
from uihlm_wireless.ledger import RoundBill


def test_a_purse_gives_all_that_is_owed_and_gives_it_once():
    purse = Purse()
    assert purse.taken() == NOTHING
    purse.owe(Charge(RoundBill(4, payload_bit=8, link_s=0.25), Cost(forwards=1, positions=3), 0.5))
    purse.owe(Charge(RoundBill(5, payload_bit=16, link_s=0.5), Cost(forwards=2, positions=4), 0.25))
    assert purse.taken() == Charge(RoundBill(0, payload_bit=24, link_s=0.75), Cost(forwards=3, positions=7), 0.75)
    assert purse.taken() == NOTHING
