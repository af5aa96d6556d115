"""Which names are this server's, and which requests come from its own pages."""

import pytest
from starlette.requests import Request

from hpscan.dashboards.origins import Hosts, client_of, is_loopback, port_of, same_origin


def request_with(client=("127.0.0.1", 1), **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": client})


def test_further_names_and_what_is_bound_to_are_allowed():
    assert Hosts.of("127.0.0.1", ["dash.example.org"]).allow("dash.example.org")
    assert Hosts.of("10.1.2.3").allow("10.1.2.3:8050")
    assert Hosts.of("127.0.0.2").allow("127.0.0.2:8050")
    assert Hosts.of("0.0.0.0").allow("192.168.1.7:8050")
    assert Hosts.of("::").allow("[fe80::1]:8050")
    assert not Hosts.of("0.0.0.0").allow("evil.example")
    assert not Hosts.of("127.0.0.1").allow("192.168.1.7")


@pytest.mark.parametrize(
    ("host", "is_it"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host, is_it):
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    ("header", "port"),
    [("localhost:8050", "8050"), ("[::1]:80", "80"), ("localhost", None), ("a/b:80", None), (None, None)],
)
def test_a_port_is_read_of_a_host_that_is_one(header, port):
    assert port_of(header) == port


@pytest.mark.parametrize("must_say", [True, False])
def test_what_a_browser_says_of_the_site_counts_more_than_the_origin(must_say):
    own, other = "http://localhost:8050", "http://evil.example"
    assert same_origin(request_with(host="localhost:8050", origin=own), must_say=must_say)
    assert not same_origin(request_with(host="localhost:8050", origin=other), must_say=must_say)
    assert not same_origin(
        request_with(host="localhost:8050", origin=own, sec_fetch_site="same-site"), must_say=must_say
    )
    assert same_origin(request_with(host="localhost:8050"), must_say=must_say) is not must_say


def test_a_client_of_ipv4_is_its_address_and_of_ipv6_its_network():
    assert client_of(request_with(("10.0.0.1", 1))) == "10.0.0.1"
    assert client_of(request_with(("2001:db8::1", 1))) == client_of(request_with(("2001:db8::ffff", 1)))
    assert client_of(request_with(("2001:db8::1", 1))) != client_of(request_with(("2001:db8:0:1::1", 1)))
    assert client_of(request_with(None)) == ""
