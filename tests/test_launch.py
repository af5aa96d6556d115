"""What the driver does besides scheduling; with real processes: tests/e2e."""

from hpscan import launch


def test_the_reason_of_a_lost_pack_is_the_last_line_of_a_chain():
    assert launch._last_line(RuntimeError("Traceback:\n  File x\n\nOSError: disk gone\n")) == "OSError: disk gone"
    assert launch._last_line(RuntimeError()) == "no message"


def test_the_commit_of_a_checkout_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch._git_commit() is None
