"""The mirror of a session: what its base station knows, what still stands, and what another stream is asked."""

from uihlm_device.outages.unanswered import Unanswered
from uihlm_device.stream.session import Upload, Verdict

PREFIX = [1, 2, 3]


def opened(epoch=0):
    mirror = Unanswered()
    mirror.opened(PREFIX, epoch)
    return mirror


def upload(first, tokens, epoch=0, **more):
    return Upload(epoch, first, payloads=[b""] * len(tokens), tokens=tokens, **more)


def test_it_knows_what_the_base_station_knows():
    mirror = opened()
    mirror.add(1, upload(5, [6, 7, 8], context_ids=[4], skipped_ids=[5]))
    assert mirror.known == PREFIX
    mirror.take(1, Verdict(2, 9))
    assert mirror.known == [*PREFIX, 4, 5, 6, 7, 9]
    mirror.add(2, Upload(1, 8, payloads=[b""] * 3, tokens=[20, 21, 22], parents=[-1, 0, 0]))
    mirror.take(2, Verdict(2, 30, path=[0, 2]))
    assert mirror.known[-3:] == [20, 22, 30]
    assert mirror.epoch == 1, "a chain was corrected; the tree ended at a leaf"


def test_generated_tokens_are_known_one_by_one_and_only_the_rest_is_asked_for():
    mirror = opened()
    mirror.add(1, Upload(0, 4, context_ids=[4], generate=10))
    for token in (5, 6):
        mirror.take(1, Verdict(0, token, last=False))
    ((number, again),) = mirror.again()
    assert (number, again) == (1, Upload(0, 6, generate=8))
    assert mirror.known == [*PREFIX, 4, 5, 6]


def test_tokens_that_come_several_at_a_time_are_known_and_the_rest_asked_for_likewise():
    mirror = opened()
    mirror.add(1, Upload(0, 3, generate=10, stream_interval=4))
    mirror.take(1, Verdict(0, 5, last=False))
    mirror.take(1, Verdict(0, 9, last=False, written=[6, 7, 8]))
    assert mirror.again() == [(1, Upload(0, 8, generate=5, stream_interval=4))]
    assert mirror.known == [*PREFIX, 5, 6, 7, 8, 9]


def test_correction_fells_what_was_built_on_it():
    mirror = opened()
    mirror.add(1, upload(3, [5]))
    mirror.add(2, upload(4, [6]))
    mirror.take(1, Verdict(0, 9))
    assert not mirror.stands(2) and mirror.again() == []
    mirror.add(3, upload(4, [7]))
    assert not mirror.stands(3), "the loop has not seen the verdict yet: it goes on in the old epoch"
    mirror.add(4, upload(4, [7], epoch=1))
    assert mirror.stands(4)


def test_wrong_guess_of_a_bonus_is_a_correction_whenever_it_comes():
    for late in (False, True):
        mirror = opened()
        mirror.add(1, upload(3, [5, 6]))
        if not late:
            mirror.add(2, upload(6, [8, 9], assumed_id=7))
        mirror.take(1, Verdict(2, 70))
        if late:
            mirror.add(2, upload(6, [8, 9], assumed_id=7))
        assert not mirror.stands(2) and mirror.epoch == 1


def test_another_stream_is_asked_what_stands_in_an_epoch_of_its_own():
    mirror = opened()
    mirror.add(1, upload(3, [5]))
    mirror.take(1, Verdict(0, 9))
    mirror.add(2, upload(4, [5, 6], epoch=1))
    mirror.add(3, upload(7, [8, 9], epoch=1, assumed_id=7))
    mirror.take(2, Verdict(2, 7))
    mirror.add(4, upload(10, [1, 2], epoch=1, assumed_id=0))
    mirror.opened(mirror.known, mirror.epoch)
    # The first guess has come true and is in the prefix; the second is a guess still.
    assert mirror.again() == [
        (3, upload(7, [8, 9], assumed_id=None)),
        (4, upload(10, [1, 2], assumed_id=0)),
    ]
    assert mirror.sent_as(upload(13, [4], epoch=1)) == upload(13, [4])


def test_guess_that_an_earlier_stream_has_answered_is_not_repeated():
    for guess, sent in ((7, upload(6, [8])), (5, None)):
        mirror = opened()
        mirror.add(1, upload(3, [5, 6]))
        mirror.take(1, Verdict(2, 7))
        mirror.opened(mirror.known, mirror.epoch)
        assert mirror.sent_as(upload(6, [8], assumed_id=guess)) == sent
        # What comes after a wrong one is of the next epoch, which is this stream's first.
        assert mirror.sent_as(upload(6, [3], epoch=int(sent is None))) == upload(6, [3])


def tree(first, tokens, parents, epoch=0, continues=0):
    return upload(first, tokens, epoch, parents=parents, continues=continues)


def test_what_continues_a_tree_walks_on_where_it_holds_the_draw():
    mirror = opened()
    mirror.add(1, tree(3, [5, 6], [-1, -1]))
    mirror.add(2, tree(3, [8, 7], [0, 1], continues=2))
    mirror.add(3, tree(3, [7, 9, 10], [0, 4, 4], continues=4))
    assert not any(map(mirror.walks_on, (1, 2, 3))), "nobody knows before the first verdict"
    mirror.take(1, Verdict(1, 7, path=[0]))
    # Node 3 holds 7 as well, but below the node that fell; 4 holds it below the one that stands.
    assert [mirror.walks_on(number) for number in (2, 3)] == [False, True]
    mirror.drop(2)
    mirror.walked(3, Verdict(1, 11, path=[5]))
    assert mirror.known == [*PREFIX, 5, 7, 9, 11] and mirror.epoch == 0
    mirror.add(4, tree(3, [11, 12], [5, 7], continues=7))
    assert mirror.walks_on(4)
    mirror.walked(4, Verdict(0, 13, path=[]))
    assert mirror.known[-1] == 13 and mirror.epoch == 1, "12 hung where 13 came"


def test_another_stream_knows_no_tree():
    mirror = opened()
    mirror.add(1, tree(3, [5], [-1]))
    more = tree(3, [6], [0], continues=1)
    assert mirror.sent_as(more) == more
    mirror.add(2, more)
    mirror.opened(mirror.known, 0)
    assert [number for number, _ in mirror.again()] == [1]
    mirror.take(1, Verdict(1, 6, path=[0]))
    assert not mirror.walks_on(2) and mirror.sent_as(tree(3, [7], [1], continues=2)) is None


def test_another_tree_or_a_chain_ends_one():
    mirror = opened()
    mirror.add(1, tree(3, [5], [-1]))
    mirror.add(2, tree(3, [6], [0], continues=1))
    mirror.take(1, Verdict(1, 6, path=[0]))
    mirror.add(3, tree(5, [7], [-1]))
    assert not mirror.walks_on(2)
    mirror.take(3, Verdict(1, 8, path=[0]))
    mirror.add(4, upload(7, [9]))
    assert mirror.sent_as(tree(5, [8], [0], continues=1)) is None
