"""What tokens and cookies allow, and how often may be guessed."""

from hpscan.dashboards import tokens
from hpscan.dashboards.tokens import Attempts, Role, Sessions, Tokens


def test_a_token_that_was_not_set_opens_nothing():
    assert not Tokens()
    assert Tokens().role(b"") is None
    assert Tokens(full="a").role(b"") is None
    assert Tokens(read="b").role(b"b") is Role.READ


def test_who_signed_out_stays_out(monkeypatch):
    sessions = Sessions()
    one, other = sessions.begin(Role.FULL), sessions.begin(Role.READ)
    sessions.end(one)
    assert (sessions.role(one), sessions.role(other)) == (None, Role.READ)
    assert Sessions().role(other) is None
    monkeypatch.setattr(tokens, "SESSION_S", -1)
    assert sessions.role(other) is None


def test_many_clients_together_have_to_wait(clock):
    attempts = Attempts(clock)
    for number in range(Attempts.MOST_IN_ALL):
        assert attempts.wait_s(f"client {number}") == 0
        attempts.failed(f"client {number}")
    assert attempts.wait_s("another") > 0
    assert attempts.wait_s("another", of_all=False) == 0
    clock.now += 61
    assert attempts.wait_s("another") == 0
