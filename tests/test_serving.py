"""``hpscan dashboard``: real processes on real ports."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from hpscan.store import Store

HPSCAN = [sys.executable, "-P", "-m", "hpscan", "dashboard"]
ENV = {name: value for name, value in os.environ.items() if not name.startswith("HPSCAN_")}


@contextlib.contextmanager
def serving(*options, cwd, how=signal.SIGINT, **env):
    """The process and the lines that it has printed, the last of which is the one that says where it serves."""
    command = [*HPSCAN, "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=cwd, env={**ENV, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline()
    finally:
        process.send_signal(how)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()


def refused(*options, cwd, **env):
    """The one line that a command that cannot be served ends in."""
    done = subprocess.run(
        [*HPSCAN, "--port", "0", *options], cwd=cwd, env={**ENV, **env}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def url_in(line):
    return re.search(r"http://\S+", line)[0]


def get(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_serves_on_loopback_until_it_is_told_to_end(tmp_path, make_spec, how, code):
    Store(tmp_path / "results").save_spec(make_spec())
    with serving(cwd=tmp_path, how=how) as (process, line):
        assert str(tmp_path / "results") in line
        url = url_in(line)
        assert url.startswith("http://127.0.0.1:")
        assert get(f"{url}/healthz") == (200, b'{"status":"ok"}')
        status, body = get(f"{url}/api/v1/sweeps")
        assert (status, json.loads(body)["total"]) == (200, 1)
        status, page = get(f"{url}/")
        assert status == 200
        assert b"<title>hpscan</title>" in page
        assert get(f"{url}/healthz", Host="evil.example")[0] == 400
    assert process.returncode == code


def test_a_store_that_is_empty_is_served(tmp_path):
    with serving(cwd=tmp_path) as (_, line):
        assert json.loads(get(f"{url_in(line)}/api/v1/sweeps")[1])["items"] == []


def test_the_options_of_a_uri_are_not_printed(tmp_path, monkeypatch, capsys):
    from hpscan.cli.serving import dashboard

    monkeypatch.setattr(Store, "sweeps", lambda _: [])
    monkeypatch.setattr("hpscan.dashboards.server.serve", lambda app, listener: listener.close())
    dashboard(store="s3://KEY:SECRET@bucket/p?endpoint_override=http://127.0.0.1:1&region=us-east-1", port=0)
    assert re.fullmatch(r"hpscan dashboard of s3://bucket/p: http://127\.0\.0\.1:\d+\n", capsys.readouterr().out)


def test_beyond_loopback_a_token_is_made_and_printed(tmp_path):
    with serving("--host", "0.0.0.0", cwd=tmp_path) as (process, line):
        port = url_in(line).rpartition(":")[2]
        token = process.stdout.readline().rpartition(" ")[2].strip()
        assert len(token) >= 40
        url = f"http://127.0.0.1:{port}"
        assert get(f"{url}/api/v1/sweeps")[0] == 401
        assert get(f"{url}/api/v1/sweeps", Authorization="Bearer wrong")[0] == 401
        assert get(f"{url}/api/v1/sweeps", Authorization=f"Bearer {token}")[0] == 200
        assert b'name="token"' in get(f"{url}/", Accept="text/html")[1]


def test_tokens_of_the_environment_are_not_printed(tmp_path):
    tokens = {"HPSCAN_TOKEN": "full-token", "HPSCAN_READ_TOKEN": "read-token\n"}  # as a secret's file may end
    with serving(cwd=tmp_path, **tokens) as (process, line):
        for token in map(str.strip, tokens.values()):
            assert get(f"{url_in(line)}/api/v1/sweeps", Authorization=f"Bearer {token}")[0] == 200
        assert get(f"{url_in(line)}/api/v1/sweeps")[0] == 401
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert "token" not in line.replace("test_tokens", "") + out + err


def test_a_further_name_is_served(tmp_path):
    with serving("--allowed-host", "dash.example.org", cwd=tmp_path) as (_, line):
        assert get(f"{url_in(line)}/healthz", Host="dash.example.org")[0] == 200


def test_the_log_of_the_server_does_not_tell_what_is_asked(tmp_path):
    with serving(cwd=tmp_path) as (process, line):
        get(f"{url_in(line)}/api/v1/sweeps?secret=1")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")


def test_a_busy_port_is_told_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port} on 127.0.0.1: Address already in use" in refused("--port", port, cwd=tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--store", "file"], "file"),
        (["--store", "gopher://x"], "--store"),
        (["--address", "auto"], "--allow-launch"),
        (["--allow-workload", "mine:make"], "--allow-launch"),
        (["--allow-launch", "--allow-workload", "mine.py"], "MODULE:FUNCTION"),
        (["--allowed-host", "http://x"], "--allowed-host"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(tmp_path, options, says):
    (tmp_path / "file").write_text("no folder")
    assert says in refused(*options, cwd=tmp_path)


def test_two_tokens_that_are_one_are_refused(tmp_path):
    assert "HPSCAN_READ_TOKEN" in refused(cwd=tmp_path, HPSCAN_TOKEN="same", HPSCAN_READ_TOKEN="same")


@pytest.mark.parametrize("absent", ["dash", "fastapi", "uvicorn", "itsdangerous", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(tmp_path, absent):
    code = f"import sys; sys.modules[{absent!r}] = None; from hpscan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "dashboard"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "hpscan: the dashboard is not installed: pip install 'hpscan[dashboard]'\n"
