"""The choice of a proxy, and the forms of its URL."""

from __future__ import annotations

import re

import pytest

from lochws.transport.proxies.choose import (
    ProxyURL,
    check_proxies,
    choose_proxy,
    may_block,
    parse_proxy,
)
from lochws.url import Endpoint, parse_url

WS = parse_url("ws://target.example/")
WSS = parse_url("wss://target.example/")


class TestChoice:
    """`choose_proxy`."""

    def test_the_key_is_http_for_ws_and_https_for_wss(self) -> None:
        proxies = {"http": "http://one:1", "https": "http://two:2"}
        assert str(choose_proxy(WS, proxies)) == "http://one:1"
        assert str(choose_proxy(WSS, proxies)) == "http://two:2"

    def test_ws_and_wss_come_first_and_all_comes_last(self) -> None:
        assert str(choose_proxy(WS, {"ws": "one:1", "http": "two:2", "all": "three:3"})) == "http://one:1"
        assert str(choose_proxy(WSS, {"wss": "one:1", "https": "two:2", "all": "three:3"})) == "http://one:1"
        assert str(choose_proxy(WS, {"https": "two:2", "all": "three:3"})) == "http://three:3"
        assert choose_proxy(WS, {"ws": None, "all": "three:3"}) is None

    @pytest.mark.parametrize("endpoint", [WS, WSS])
    def test_a_url_is_for_every_endpoint(self, endpoint: Endpoint) -> None:
        assert str(choose_proxy(endpoint, "socks5h://proxy")) == "socks5h://proxy:1080"

    def test_a_function_is_given_the_url_without_credentials(self) -> None:
        given: list[str] = []

        def choose(url: str) -> str | None:
            given.append(url)
            return "one:1" if url.startswith("wss") else None

        assert choose_proxy(parse_url("ws://me:secret@target.example/path"), choose) is None
        assert str(choose_proxy(WSS, choose)) == "http://one:1"
        assert given == ["ws://target.example/path", "wss://target.example/"]

    def test_what_a_function_returns_is_checked(self) -> None:
        with pytest.raises(TypeError, match="a proxy URL must be a str, not int"):
            choose_proxy(WS, lambda _: 3128)  # type: ignore[arg-type, return-value]

    @pytest.mark.parametrize("proxies", [{}, {"https": "http://two:2"}, {"http": None}, {"http": ""}, ""])
    def test_a_missing_key_or_none_is_a_direct_connection(self, proxies: dict[str, str | None]) -> None:
        assert choose_proxy(WS, proxies) is None

    def test_none_is_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert choose_proxy(WS, None) is None
        monkeypatch.setenv("http_proxy", "http://one:1")
        monkeypatch.setenv("HTTPS_PROXY", "two:2")
        assert str(choose_proxy(WS, None)) == "http://one:1"
        assert str(choose_proxy(WSS, None)) == "http://two:2"
        assert choose_proxy(WS, {}) is None

    @pytest.mark.parametrize(
        ("names", "chosen"),
        [
            (["all_proxy"], "all_proxy"),
            (["all_proxy", "https_proxy"], "https_proxy"),
            (["all_proxy", "https_proxy", "wss_proxy"], "wss_proxy"),
            (["ALL_PROXY", "WSS_PROXY"], "WSS_PROXY"),
            (["WSS_PROXY", "wss_proxy"], "wss_proxy"),
            (["http_proxy", "ws_proxy"], None),
        ],
    )
    def test_the_nearest_name_of_the_environment_is_taken_in_either_case(
        self, monkeypatch: pytest.MonkeyPatch, names: list[str], chosen: str | None
    ) -> None:
        for number, name in enumerate(names, 1):
            monkeypatch.setenv(name, f"proxy:{number}")
        proxy = choose_proxy(WSS, None)
        assert (None if proxy is None else names[proxy.port - 1]) == chosen

    def test_a_system_that_has_settings_is_asked_for_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lochws.transport.proxies.choose._SYSTEM_HAS_SETTINGS", True)
        monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": "http://one:1"})
        monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: host == "exempt.example")
        assert str(choose_proxy(WS, None)) == "http://one:1"
        assert choose_proxy(parse_url("ws://exempt.example"), None) is None
        assert may_block(None)
        assert not may_block({})
        monkeypatch.setenv("all_proxy", "http://two:2")
        assert not may_block(None)

    def test_http_proxy_in_a_cgi_script_is_a_strangers_header(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://evil:1")
        monkeypatch.setenv("REQUEST_METHOD", "GET")
        assert choose_proxy(WS, None) is None

    @pytest.mark.parametrize(
        ("no_proxy", "url"),
        [
            ("target.example", "ws://target.example/"),
            ("other.example,example", "ws://target.example/"),
            ("target.example:8080", "ws://target.example:8080/"),
            ("::1", "ws://[::1]:8080/"),
            ("*", "ws://target.example/"),
            ("10.0.0.0/8", "ws://10.1.2.3/"),
        ],
    )
    def test_no_proxy_exempts(self, monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str) -> None:
        monkeypatch.setenv("http_proxy", "http://one:1")
        assert choose_proxy(parse_url(url), None) is not None
        monkeypatch.setenv("no_proxy", no_proxy)
        assert choose_proxy(parse_url(url), None) is None

    def test_no_proxy_does_not_exempt_other_hosts_and_ports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://one:1")
        monkeypatch.setenv("no_proxy", "other.example,target.example:8080")
        assert choose_proxy(WS, None) is not None

    def test_no_proxy_says_nothing_about_given_proxies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "*")
        assert choose_proxy(WS, {"http": "http://one:1"}) is not None


class TestURL:
    """`parse_proxy` and `check_proxies`."""

    @pytest.mark.parametrize(
        ("url", "proxy"),
        [
            ("http://proxy:8080", ProxyURL("http", "proxy", 8080)),
            ("http://PROXY", ProxyURL("http", "proxy", 80)),
            ("proxy:8080", ProxyURL("http", "proxy", 8080)),
            ("http://[::1]:8080/", ProxyURL("http", "::1", 8080)),
            ("http://me:p%40ss@proxy:1", ProxyURL("http", "proxy", 1, ("me", "p@ss"))),
            ("me:secret@proxy:1", ProxyURL("http", "proxy", 1, ("me", "secret"))),
            ("http://me@proxy:1", ProxyURL("http", "proxy", 1, ("me", ""))),
            ("https://proxy", ProxyURL("https", "proxy", 443)),
            ("http://b\u00fccher.example:1", ProxyURL("http", "xn--bcher-kva.example", 1)),
            ("socks4://me@proxy", ProxyURL("socks4", "proxy", 1080, ("me", ""))),
            ("socks4a://proxy:1", ProxyURL("socks4a", "proxy", 1)),
            ("socks5://me:secret@proxy", ProxyURL("socks5", "proxy", 1080, ("me", "secret"))),
            ("SOCKS5H://[::1]", ProxyURL("socks5h", "::1", 1080)),
            ("socks://proxy", ProxyURL("socks5h", "proxy", 1080)),
        ],
    )
    def test_it_is_taken_apart(self, url: str, proxy: ProxyURL) -> None:
        assert parse_proxy(url) == proxy

    def test_credentials_show_in_no_text(self) -> None:
        proxy = parse_proxy("http://me:secret@[::1]:8080")
        assert str(proxy) == "http://[::1]:8080"
        assert "secret" not in repr(proxy)
        assert "'me'" not in repr(proxy)

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("ftp://me:secret@proxy", "with ftp:// is not supported: expected one of http://, https://,"),
            ("http://m%3Ae:secret@proxy", "colon in its user name"),
            ("socks5://me@proxy", "lacks a user name or password"),
            ("socks5://:secret@proxy", "lacks a user name or password"),
            ("socks5://me:" + "secret" * 22 + "@proxy", "over 127 bytes, too long for SOCKS"),
            ("socks4://" + "\u00fc" * 64 + "@proxy", "over 127 bytes, too long for SOCKS"),
            ("socks4://me%00secret@proxy", "NUL in its user name"),
            ("http://me:secret@proxy:port", "no valid host and port"),
            ("http://me:sec/ret@proxy", "no valid host and port"),
            ("http://me:secret@proxy:70000", "no valid host and port"),
            ("http://me:secret@", "no host"),
            ("http://", "no host"),
            ("http://me:secret@[::1", "no valid host and port"),
            ("http://me:secret@pro\u2100xy", "no valid host and port"),
            ("http://me:secret@pro xy", "a space or a control character"),
            ("http://me:secret@proxy\r\nX: y", "a space or a control character"),
        ],
    )
    def test_a_wrong_one_is_refused_without_its_credentials(self, url: str, text: str) -> None:
        for given in (url, {"https": url}, {"all": url}):
            with pytest.raises(ValueError, match=text) as caught:
                check_proxies(given)
            assert not re.search("secret|sec/", str(caught.value))
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or "secret" not in repr(caught.value.__context__)

    def test_a_proxy_url_that_is_not_a_str_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a proxy URL must be a str, not int"):
            check_proxies({"http": 3128})
        with pytest.raises(TypeError, match="a mapping such as"):
            check_proxies(["http://proxy"])

    def test_none_and_unused_keys_are_fine(self) -> None:
        check_proxies(None)
        check_proxies({"http": None, "ftp": "ftp://proxy"})
        check_proxies("proxy:3128")
        check_proxies(lambda _: None)
