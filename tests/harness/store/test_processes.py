"""What is known of a process by its machine, its number and when it began."""

from dataclasses import replace

from harness.store.processes import Process

NOBODY = 2**22 + 1  # above the highest number that Linux gives


def test_a_process_is_gone_where_it_is_known_to_be_and_never_on_another_machine():
    own = Process.own()
    assert not own.gone
    assert replace(own, pid=NOBODY, born=1).gone
    assert not replace(own, host="elsewhere", pid=NOBODY, born=1).gone
