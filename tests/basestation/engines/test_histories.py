"""What a base station remembers of its sessions' ids, where one more goes behind them."""

import pytest

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.histories import Histories


@pytest.fixture
def histories():
    held = Histories()
    held.commit(Work(1, 0, [4, 5, 6], 1))
    held.commit(Work(2, 0, [4, 5, 6], 1))
    held.commit(Work(2, 3, [7, 8], 2, [-1, 0]))
    return held


def test_one_id_goes_behind_all_there_are(histories):
    assert histories.extend(1, 3, 9)
    assert histories[1].ids == [4, 5, 6, 9]
    histories.cut(1, 3)
    assert histories[1].ids == [4, 5, 6]


@pytest.mark.parametrize(("session", "position"), [(1, 2), (1, 4), (1, 0), (2, 3), (3, 0), (3, 1)], ids=str)
def test_behind_fewer_or_more_of_them_or_behind_a_tree_none_goes(histories, session, position):
    before = list(histories[session].ids)
    assert not histories.extend(session, position, 9)
    assert histories[session].ids == before
