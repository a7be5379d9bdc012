"""The ledger: parts of a round come out in order, and nothing is lost or counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.errors import ProtocolError
from uihlm_wireless.ledger import Ledger, RoundBill


def test_a_round_is_its_request_and_its_answer():
    ledger = Ledger()
    ledger.charge_request(RoundBill(4, model_bit=10, payload_bit=8, uplink_wire_bytes=3, airtime_s=1.0, link_s=1.5))
    ledger.charge_answer(RoundBill(4, downlink_wire_bytes=2, link_s=0.25, downlink_s=0.25, forward_s=0.5))
    bill = ledger.bill(4)
    assert (bill.round, bill.model_bit, bill.payload_bit, bill.wire_bytes) == (4, 10, 8, 5)
    assert (bill.airtime_s, bill.link_s, bill.downlink_s, bill.forward_s) == (1.0, 1.75, 0.25, 0.5)
    assert ledger.pop(4) == bill


def test_further_answers_are_further_parts_however_early_they_are_read():
    ledger = Ledger()
    ledger.charge_request(RoundBill(1, uplink_wire_bytes=100))
    for weight in (1, 2, 3):
        ledger.charge_answer(RoundBill(1, downlink_wire_bytes=weight))
    assert [ledger.pop(1).wire_bytes for _ in range(3)] == [101, 2, 3]


def test_a_request_that_is_never_answered_can_be_taken():
    ledger = Ledger()
    ledger.charge_request(RoundBill(1, model_bit=5))
    assert ledger.pop(1).model_bit == 5


def test_a_bill_that_is_not_there_is_named():
    ledger = Ledger()
    ledger.charge_request(RoundBill(1))
    ledger.pop(1)
    for ask in (ledger.pop, ledger.bill):
        with pytest.raises(ProtocolError, match="round 1"):
            ask(1)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 1000), st.booleans()), max_size=60))
def test_what_is_popped_adds_up_to_the_totals(events):
    ledger, popped, opened = Ledger(), 0, set()
    for round_, weight, pop in events:
        if round_ not in opened:
            opened.add(round_)
            ledger.charge_request(RoundBill(round_, uplink_wire_bytes=weight))
        else:
            ledger.charge_answer(RoundBill(round_, downlink_wire_bytes=weight))
        if pop:
            popped += ledger.pop(round_).wire_bytes
    left = 0
    for round_ in opened:
        try:
            left += ledger.bill(round_).wire_bytes
        except ProtocolError:
            continue
    assert popped + left == ledger.totals().wire_bytes


def test_what_a_lost_round_cost_goes_with_another():
    ledger = Ledger()
    ledger.charge_request(RoundBill(1, uplink_wire_bytes=100, link_s=1.0))
    ledger.charge_answer(RoundBill(1, downlink_wire_bytes=10))
    ledger.charge_request(RoundBill(2, uplink_wire_bytes=7))
    ledger.fold(1, 2)
    ledger.charge_request(RoundBill(2, uplink_wire_bytes=7))
    ledger.charge_answer(RoundBill(2, downlink_wire_bytes=1))
    bill = ledger.pop(2)
    assert (bill.round, bill.uplink_wire_bytes, bill.downlink_wire_bytes, bill.link_s) == (2, 114, 11, 1.0)
    with pytest.raises(ProtocolError, match="round 1"):
        ledger.pop(1)


def test_round_asked_again_pays_for_the_answer_that_was_lost():
    ledger = Ledger()
    ledger.charge_request(RoundBill(3, uplink_wire_bytes=5))
    for weight in (1, 2, 4):
        ledger.charge_answer(RoundBill(3, downlink_wire_bytes=weight))
    assert ledger.pop(3).wire_bytes == 6
    # Two more answers had come, and were lost on the way to their reader.
    ledger.fold(3, 3)
    ledger.charge_request(RoundBill(3, uplink_wire_bytes=5))
    ledger.charge_answer(RoundBill(3, downlink_wire_bytes=2))
    assert ledger.pop(3).wire_bytes == 2 + 4 + 5 + 2
    ledger.fold(9, 9)
    assert ledger.pop(9) == RoundBill(9), "what was never sent costs nothing"


def test_latenesses_are_handed_over_once_and_bounded():
    ledger = Ledger()
    for late_s in range(5000):
        ledger.note_late(float(late_s))
    taken = ledger.take_late()
    assert taken == [float(late_s) for late_s in range(904, 5000)]
    assert ledger.take_late() == [] and ledger.totals() == RoundBill(0)


def test_each_answer_keeps_its_own_time_and_sums_over_rounds_have_none():
    ledger = Ledger()
    ledger.charge_request(RoundBill(1, uplink_wire_bytes=9))
    for reached_at in (2.0, 3.0):
        ledger.charge_answer(RoundBill(1, downlink_wire_bytes=1, reached_at=reached_at))
    assert ledger.bill(1).reached_at == 3.0
    assert [ledger.pop(1).reached_at for _ in range(2)] == [2.0, 3.0]
    assert ledger.totals().reached_at == 0.0
    ledger.charge_request(RoundBill(2))
    ledger.charge_answer(RoundBill(2, downlink_wire_bytes=1, reached_at=40.0))
    ledger.charge_request(RoundBill(3))
    ledger.fold(2, into=3)
    ledger.charge_answer(RoundBill(3, downlink_wire_bytes=1, reached_at=9.0))
    folded = ledger.pop(3)
    assert folded.downlink_wire_bytes == 2 and folded.reached_at == 9.0
    assert RoundBill(3, downlink_wire_bytes=2) == folded, "a time is no cost"


def test_bills_that_nobody_takes_do_not_pile_up():
    """An endpoint's clients leave while verdicts are on their way, for as long as it runs."""
    ledger = Ledger()
    for number in range(10_000):
        ledger.charge_request(RoundBill(2 * number, uplink_wire_bytes=1))
        ledger.charge_answer(RoundBill(2 * number, downlink_wire_bytes=1))
        ledger.charge_request(RoundBill(2 * number + 1, uplink_wire_bytes=1))
    assert len(ledger._parts) <= 4096 and len(ledger._unanswered) <= 4096
    assert ledger.totals().wire_bytes == 30_000
    assert ledger.pop(2 * 9_999).wire_bytes == 2 and ledger.pop(2 * 9_999 + 1).wire_bytes == 1
    with pytest.raises(ProtocolError):
        ledger.pop(0)
