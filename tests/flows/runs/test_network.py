"""How addresses are reached, by the variables of the machine."""

from __future__ import annotations

import pytest

from flows.runs.network import Network, bypassed
from flows.settings.parse import SettingsError

FAR, OTHER = "https://eu.posthog.com", "http://posthog.internal:8000"
DIRECT = [
    ("*", "anything.example"),
    ("a.b, *", "anything.example"),
    ("example.com", "example.com"),
    ("example.com", "www.example.com"),
    (".example.com", "www.example.com"),
    (".example.com", "example.com"),
    ("*.example.com", "www.example.com"),
    ("EXAMPLE.com", "Www.Example.COM"),
    ("example.com.", "example.com"),
    ("a.b example.com", "example.com"),
    ("a.b;example.com", "example.com"),
    ("a.b,,example.com,", "example.com"),
    ("example.com:443", "example.com"),
    ("https://example.com", "example.com"),
    ("all://example.com", "example.com"),
    ("10.1.2.3", "10.1.2.3"),
    ("10.0.0.0/8", "10.1.2.3"),
    ("10.1.2.3/8", "10.1.2.3"),
    ("10.*", "10.1.2.3"),
    ("fd00::/8", "fd12::1"),
    ("[fd00::]/8", "fd12::1"),
    ("::1", "::1"),
    ("[::1]", "::1"),
    ("[::1]:443", "::1"),
    ("0:0:0:0:0:0:0:1", "::1"),
    ("fe80::1%eth0", "fe80::1"),
    ("fe80::/10", "fe80::1%eth0"),
]
PROXIED = [
    ("", "example.com"),
    (",;  ", "example.com"),
    (".", "example.com"),
    ("example.com", "badexample.com"),
    ("example.com", "example.com.evil.org"),
    ("example.com:80", "example.com"),
    ("http://example.com", "example.com"),
    ("10.0.0.0/8", "11.1.2.3"),
    ("10.0.0.0/8", "10.example.com"),
    ("10.0.0.0/99", "10.0.0.0"),
    ("fd00::/8", "10.1.2.3"),
    ("0.0.0.0/0", "::1"),
    ("[::1", "::2"),
    ("[]", "example.com"),
    (":::", "::1:1"),
    ("<local>", "example.com"),
]


@pytest.mark.parametrize(("no_proxy", "host"), DIRECT)
def test_host_is_reached_directly(no_proxy, host):
    """Every usual form of NO_PROXY is understood."""
    assert bypassed(no_proxy, scheme="https", host=host, port=443)


@pytest.mark.parametrize(("no_proxy", "host"), PROXIED)
def test_host_is_reached_by_the_proxy(no_proxy, host):
    """What is another host, or no form at all, is passed over."""
    assert not bypassed(no_proxy, scheme="https", host=host, port=443)


BY = [
    pytest.param({}, FAR, "", id="none"),
    pytest.param({"HTTPS_PROXY": "p", "HTTP_PROXY": "q"}, FAR, "HTTPS_PROXY", id="by scheme"),
    pytest.param({"HTTPS_PROXY": "p", "HTTP_PROXY": "q"}, OTHER, "HTTP_PROXY", id="by the other scheme"),
    pytest.param({"HTTPS_PROXY": "p", "ALL_PROXY": "q"}, OTHER, "ALL_PROXY", id="for all others"),
    pytest.param({"HTTPS_PROXY": "p", "https_proxy": "q"}, FAR, "https_proxy", id="lower before upper"),
    pytest.param({"HTTPS_PROXY": "p", "https_proxy": ""}, FAR, "", id="lower is empty"),
    pytest.param({"HTTPS_PROXY": "p", "https_proxy": "", "ALL_PROXY": "q"}, FAR, "ALL_PROXY", id="empty, and all"),
    pytest.param({"HTTPS_PROXY": "p", "NO_PROXY": "posthog.com"}, FAR, "", id="not for it"),
    pytest.param({"HTTPS_PROXY": "p", "NO_PROXY": "posthog.com:443"}, FAR, "", id="not for its usual port"),
    pytest.param({"HTTP_PROXY": "p", "NO_PROXY": "posthog.internal:8000"}, OTHER, "", id="not for its port"),
    pytest.param({"HTTP_PROXY": "p", "NO_PROXY": "posthog.internal:80"}, OTHER, "HTTP_PROXY", id="for its port"),
    pytest.param({"HTTP_PROXY": "p", "NO_PROXY": "https://posthog.internal"}, OTHER, "HTTP_PROXY", id="for its scheme"),
    pytest.param({"HTTPS_PROXY": "p", "NO_PROXY": "*", "no_proxy": ""}, FAR, "HTTPS_PROXY", id="lower is for none"),
    pytest.param({"HTTP_PROXY": "p", "REQUEST_METHOD": "GET"}, OTHER, "", id="named by a stranger's header"),
    pytest.param({"HTTPS_PROXY": "socks5://p", "NO_PROXY": "*"}, FAR, "", id="wrong, and not used"),
    pytest.param({"HTTPS_PROXY": "p", "ALL_PROXY": "socks5://p"}, FAR, "HTTPS_PROXY", id="wrong for others"),
]


@pytest.mark.parametrize(("variables", "address", "by"), BY)
def test_proxy_is_chosen(variables, address, by):
    """By scheme, by case and by NO_PROXY, as curl and Python choose."""
    assert Network(variables).proxy_for(address) == by


def test_machine_names_a_proxy_where_no_variable_does():
    """macOS has them in its settings."""
    system = {"https": "http://p:1"}

    assert Network({}, system).way(FAR).proxy == "http://p:1"
    assert Network({"HTTP_PROXY": "q"}, system).way(FAR).proxy is None


@pytest.mark.parametrize(
    ("value", "proxy", "login"),
    [
        ("p", "http://p", None),
        ("p:3128/", "http://p:3128", None),
        ("HTTPS://P:1", "https://p:1", None),
        ("http://me:p%40%2Fss@p:1", "http://p:1", ("me", "p@/ss")),
        ("me:p@ss@p:1", "http://p:1", ("me", "p@ss")),
        ("http://me@p", "http://p", ("me", "")),
        ("http://[::1]:1", "http://[::1]:1", None),
    ],
)
def test_proxy_address_is_taken_apart(value, proxy, login):
    """The login is no part of the address, so that no error of a library shows it."""
    way = Network({"ALL_PROXY": value}).way(FAR)

    assert (way.proxy, way.login) == (proxy, login)
    assert login is None or repr(login) not in repr(way)


@pytest.mark.parametrize("value", ["socks5h://me:hunter2@p", "hunter2!://p", "http://", "http://p:0", "http://a b"])
def test_proxy_that_is_none_is_named_without_its_value(value):
    """The variable, and what is expected."""
    with pytest.raises(SettingsError, match="ALL_PROXY") as raised:
        Network({"ALL_PROXY": value}).way(FAR)

    assert "hunter2" not in str(raised.value) + raised.value.hint


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "set SSL_CERT_FILE to your"),
        ({"REQUESTS_CA_BUNDLE": "/a"}, "what REQUESTS_CA_BUNDLE names"),
        ({"CURL_CA_BUNDLE": "/a"}, "what CURL_CA_BUNDLE names"),
    ],
)
def test_certificate_that_is_not_trusted_says_what_to_set(variables, words):
    """Also to whoever set it for another program."""
    assert words in Network(variables).way(FAR).unproven


def test_client_that_reads_by_itself_is_led_around_the_proxy():
    """Only where it could go another way: with the proxy for others, whom that is not for, and the machine's own addresses."""
    variables = {"HTTPS_PROXY": "me:p%2F@p:1", "NO_PROXY": "*.posthog.com"}
    around = Network(variables).around(FAR)

    assert around is not None
    assert around[0] == "http://me:p%2F@p:1"
    assert around[1].split(",")[:3] == ["*.posthog.com", "eu.posthog.com", "169.254.0.0/16"]
    assert Network(variables).around("https://a.example") is None
    assert Network({}).around(FAR) is None
    assert Network({"HTTPS_PROXY": "socks5://p", "NO_PROXY": "*"}).around(FAR) is None
