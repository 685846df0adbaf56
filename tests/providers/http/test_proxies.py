"""The environment's proxies: which one is used, and that it changes the route and nothing else."""

import pytest

from modelhub.core.errors import ConnectFailed, NotConfigured
from modelhub.providers.http.proxies import ProxySettings, read_proxy_addresses
from tests.providers.certificates import Authority
from tests.providers.http.loopback import OK, Proxy, Server, open_transport, reply, request_to
from tests.tables import table


@table(
    ("exceptions", "url", "goes_through"),
    [
        ("", "https://api.example/v1", True),
        ("*", "https://api.example/v1", False),
        ("api.example", "https://api.example/v1", False),
        ("example", "https://api.example/v1", False),
        (".example", "https://api.example/v1", False),
        ("*.example", "https://api.example/v1", False),
        ("API.Example.", "https://api.example/v1", False),
        ("pi.example", "https://api.example/v1", True),
        ("other, api.example", "https://api.example/v1", False),
        ("api.example:443", "https://api.example/v1", False),
        ("api.example:8443", "https://api.example/v1", True),
        ("api.example:8443", "https://api.example:8443/v1", False),
        ("https://api.example", "https://api.example/v1", False),
        ("10.0.0.0/8", "http://10.1.2.3:8000/v1", False),
        ("10.0.0.0/8", "http://11.1.2.3:8000/v1", True),
        ("10.0.0.0/8", "http://api.example/v1", True),
        ("127.0.0.1", "http://127.0.0.1:8000/v1", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1", False),
        ("::1", "http://[::1]:8000/v1", False),
        ("[::1]", "http://[::1]:8000/v1", False),
        ("[::1]:8000", "http://[::1]:8000/v1", False),
        ("[::1]:9000", "http://[::1]:8000/v1", True),
        ("0:0:0:0:0:0:0:1", "http://[::1]:8000/v1", False),
        ("fd00::/8", "http://[fd12::1]:8000/v1", False),
        ("fd00::/8", "http://[fe80::1]:8000/v1", True),
        ("not/anetwork, ,:", "http://[::1]:8000/v1", True),
    ],
)
def test_no_proxy_lists_what_is_reached_without_one(exceptions, url, goes_through):
    """Names with their subdomains, addresses of both kinds, networks, and ports."""
    settings = ProxySettings({"all": "http://proxy.example:3128", "no": exceptions})
    assert settings.find_proxy(url) == ("http://proxy.example:3128" if goes_through else None)


@table("name", ["HTTP_PROXY", "https_proxy", "All_Proxy"])
def test_every_proxy_of_the_environment_is_known(monkeypatch, name):
    """However the variable's name is written; one that is taken away is known no more."""
    address = "http://user:pässword@proxy.example:3128"
    monkeypatch.setenv(name, address)
    assert address in read_proxy_addresses()
    monkeypatch.delenv(name)
    assert address not in read_proxy_addresses()


def test_the_scheme_of_the_address_names_the_proxy(monkeypatch):
    """HTTPS_PROXY is for https://, ALL_PROXY for what has none of its own; an empty variable is none."""
    monkeypatch.setattr(
        "urllib.request.getproxies", lambda: {"https": "secure.example:1", "all": "http://any.example:2", "http": ""}
    )
    settings = ProxySettings.from_environment()
    assert settings.find_proxy("https://api.example") == "http://secure.example:1"
    assert settings.find_proxy("http://api.example") == "http://any.example:2"
    assert not ProxySettings({"no": "localhost"})


def test_a_proxy_that_cannot_be_used_is_named_without_its_password():
    """SOCKS is none that can."""
    with pytest.raises(NotConfigured, match=r"socks5://proxy\.example:1080") as caught:
        ProxySettings({"all": "socks5://user:secret@proxy.example:1080"}).find_proxy("https://api.example")
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """The TLS context of a server on 127.0.0.1, and the file with the certificate of its authority."""
    authority = Authority(tmp_path_factory.mktemp("tls"), "authority")
    return authority.server(), authority.file


@table("secure", [False, True], ids=["http", "https"])
@table("credentials", ["", "user:p@ss word"], ids=["open", "with password"])
async def test_a_proxy_changes_the_route_and_nothing_else(secure, credentials, tls, monkeypatch):
    """The server gets the request that it would get without it; credentials of the proxy are for the proxy alone."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    request = {"headers": {"Authorization": "Bearer key"}, "body": b"question"}
    async with Server(reply(OK, keep=True)).running(ssl=tls[0] if secure else None) as server:
        async with open_transport("aiohttp") as transport:
            assert await (await transport.send(request_to(server.url, **request))).read() == b"ok"
        async with Proxy(credentials).running() as proxy:
            userinfo = "user:p%40ss%20word@" if credentials else ""
            monkeypatch.setenv("HTTPS_PROXY" if secure else "HTTP_PROXY", f"http://{userinfo}{proxy.address}")
            async with open_transport("aiohttp") as transport:
                response = await transport.send(request_to(server.url, **request))
                assert (response.status, await response.read()) == (200, b"ok")
    direct, routed = server.heads
    hop_by_hop = ("proxy-authorization", "proxy-connection")
    kept = [line for line in routed.split("\r\n") if not line.lower().startswith(hop_by_hop)]
    assert sorted(kept) == sorted(direct.split("\r\n"))
    assert secure <= ("proxy-authorization" not in routed.lower())
    assert proxy.lines[0].startswith("CONNECT 127.0.0.1:" if secure else "POST http://127.0.0.1:")
    assert proxy.credentials == [proxy.expected]
    assert server.bodies == [b"question"] * 2


@pytest.mark.parametrize("kind", ["wrong password", "not there"])
async def test_a_proxy_that_does_not_connect_was_never_sent(kind, tls, monkeypatch):
    """The failure says that it is the proxy, without its password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    async with Proxy("user:right").running() as proxy, Server(reply(OK)).running(ssl=tls[0]) as server:
        address = proxy.address if kind == "wrong password" else "127.0.0.1:9"
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrongsecret@{address}")
        async with open_transport("aiohttp") as transport:
            with pytest.raises(ConnectFailed, match="proxy") as caught:
                await transport.send(request_to(server.url))
    assert "wrongsecret" not in str(caught.value)
    assert server.heads == []
