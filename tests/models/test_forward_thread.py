"""A thread that is given work: in order, with an answer, and never in vain."""

import signal
import threading
import time

import pytest

from uihlm_models.forward_thread import EndedError, ForwardThread


@pytest.fixture
def thread():
    thread = ForwardThread("engine")
    yield thread
    thread.end()
    thread.join(10.0)


def test_work_is_done_there_one_after_the_other(thread):
    done = []
    for number in range(50):
        assert thread.put(lambda number=number: done.append((number, threading.current_thread())))
    assert thread.call(threading.current_thread) is thread
    assert done == [(number, thread) for number in range(50)]


def test_an_error_is_raised_where_the_work_was_asked_for_and_the_thread_lives_on(thread, caplog):
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert not caplog.records
    thread.put(lambda: 1 // 0)
    assert thread.call(lambda: 7) == 7
    assert "a job of the thread engine failed" in caplog.text


def test_what_was_given_before_the_end_is_done_and_nothing_after(thread):
    done = []
    thread.put(lambda: time.sleep(0.1))
    thread.put(lambda: done.append("before"))
    thread.end()
    assert not thread.put(lambda: done.append("after"))
    with pytest.raises(EndedError, match="engine has ended"):
        thread.call(lambda: done.append("after"))
    thread.join(10.0)
    assert not thread.is_alive() and done == ["before"]
    thread.end()


@pytest.fixture
def interruptible():
    """Processes in the background may begin with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("ended", [False, True])
def test_who_is_interrupted_leaves_only_when_the_work_is_done(thread, ended):
    """A forward writes to memory that is freed next."""
    came, done = threading.Event(), []

    def work():
        came.set()
        time.sleep(0.4)
        done.append(True)

    def interrupt():
        came.wait()
        if ended:
            thread.end()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        thread.call(work)
    assert done == [True]
