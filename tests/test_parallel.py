import threading
import time
from itertools import count

import pytest

from camera_trap_al.parallel import mapped_ahead


def test_results_come_in_the_order_of_the_items_whatever_takes_longest():
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item < 2 else 0)
        return item * item

    assert list(mapped_ahead(slow_at_first, range(10), threads=4, ahead=6)) == [item * item for item in range(10)]


def test_no_items_give_no_results():
    assert list(mapped_ahead(str, [], threads=2, ahead=2)) == []


def test_calls_run_side_by_side():
    meeting = threading.Barrier(3, timeout=10)  # each waits until all three are there

    def meet(item: int) -> int:
        meeting.wait()
        return item

    assert list(mapped_ahead(meet, range(6), threads=3, ahead=3)) == list(range(6))


def test_only_so_many_items_are_drawn_ahead_also_of_an_endless_supply():
    drawn = []

    def items():
        for item in count():
            drawn.append(item)
            yield item

    results = mapped_ahead(lambda item: item, items(), threads=2, ahead=3)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert drawn == list(range(5 + 3))
    results.close()


def test_items_are_drawn_in_the_thread_of_the_caller():
    """So that what is drawn from a random generator among them does not depend on which thread is faster."""
    drawn_by = set()

    def items():
        for item in range(20):
            drawn_by.add(threading.get_ident())
            yield item

    worked_by = set(mapped_ahead(lambda item: threading.get_ident(), items(), threads=2, ahead=4))
    assert drawn_by == {threading.get_ident()}
    assert threading.get_ident() not in worked_by


def test_an_error_is_raised_where_its_result_would_have_come():
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = mapped_ahead(fail_at_two, range(100), threads=2, ahead=5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    results = mapped_ahead(lambda item: item, range(1000), threads=4, ahead=8)
    next(results)
    results.close()
    assert threading.active_count() == before
