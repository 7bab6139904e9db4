"""Which addresses are fetched, which are warned of, and what of them is shown."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwenvl_prep import addresses
from qwenvl_prep.addresses import check_address, check_fetchable, shown
from qwenvl_prep.errors import AddressError, FetchDeadlineError, FetchError

# Each is one way to say a place that is not public; all are IP addresses, so that no
# name server is asked.
PRIVATE = """
127.0.0.1 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0x7f.1 0x7f000001 2130706433
017700000001 127.0.0.1. 127.255.255.254 0.0.0.0 0 0.1.2.3 10.0.0.1 10.255.255.255
0xa.1 167772161 172.16.0.1 172.31.255.255 192.168.0.1 192.168.257 0xc0a80001
169.254.0.1 169.254.169.254 0xa9fea9fe 2852039166 0251.0376.0251.0376
169.254.43518 100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.1 192.0.0.170
192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1]
[0:0:0:0:0:ffff:10.0.0.1] [::ffff:169.254.169.254] [::127.0.0.1] [::8.8.8.8]
[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b::a9fe:a9fe]
[64:ff9b:1::8.8.8.8] [2002:7f00:1::] [2002:808:808::1] [2002:a00:1::1]
[2002:a9fe:a9fe::1]
[2001:0:4136:e378:8000:63bf:3fff:fdd2] [2001:db8::1] [2001:10::1] [2001:20::1]
[fe80::1] [fe80::1%25eth0] [febf::1] [fec0::1] [fc00::1] [fd00::1]
[fd00:ec2::254] [fd20:ce::254] [ff02::1] [ff0e::1] [100::1] [3fff::1]
[5f00::1] [4000::1] [2001:470:1f06::5efe:10.0.0.1] [2001:470:1f06::200:5efe:a00:1]
[2620:4f:8000::0:5efe:127.0.0.1]
"""

PUBLIC = """
8.8.8.8 1.1.1.1 0x08.8.8.8 134744072 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1
192.167.1.1 223.255.255.255 [2606:4700:4700::1111] [2a00:1450:4001:80b::200e]
[64:ff9b::808:808] [::ffff:8.8.8.8]
"""

MALFORMED = [
    "",
    "cat.jpg",
    "//example.org/cat.jpg",
    "http:example.org",
    "http:///cat.jpg",
    "http://",
    "http://.",
    "http://[::1",
    "http://[::1]x/",
    "http://[v1.x]/",
    "http://[fe80::g]/",
    "http://exa mple.org/",
    "http://example.org/a b.jpg",
    "http://exa\tmple.org/",
    "http://example.org/\r\nHost: 10.0.0.1",
    "http://example.org/\udc80.jpg",
    "http://example.org\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://example.org:0/",
    "http://example.org:65536/",
    "http://example.org:-1/",
    "http://example.org:http/",
    "http://127.0.0.1%2f@example.org/",
    "http://example%2eorg/",
    "http://127.0.0.1%00.example.org/",
    "http://a..b/",
    "http://-a/",
    "http://" + "a." * 130 + "org/",
    "http://ex＠mple.org/",
    "http://user@example.org/",
    "http://:word@example.org/",
    "http://8.8.8.8@127.0.0.1/",
    "http://@example.org/",
    "ftp://example.org/cat.jpg",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1/",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "oss://bucket/cat.jpg",
    "ws://example.org/",
    "httpx://example.org/",
    "jar:http://example.org!/",
]


@pytest.mark.parametrize("host", PRIVATE.split())
def test_private_places_are_refused_in_every_spelling(host):
    """No spelling of a place that is not public gets past the check."""
    for scheme in ("http", "https"):
        with pytest.raises(AddressError, match="Expected") as caught:
            check_fetchable(f"{scheme}://{host}/cat.jpg?Signature=canary")
        assert "canary" not in str(caught.value) + repr(caught.value)
        assert caught.value.address.startswith(f"{scheme}://")


@pytest.mark.parametrize("host", PUBLIC.split())
def test_public_places_are_taken(host):
    """The neighbours of private networks are not refused with them."""
    checked = check_fetchable(f"https://{host}/cat.jpg")
    assert checked.port == 443
    assert len(checked.ips) == 1


@pytest.mark.parametrize("url", MALFORMED, ids=repr)
def test_malformed_addresses_are_refused(url, monkeypatch):
    """What parsers could read in two ways never comes as far as the resolver."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: pytest.fail("looked up"))
    for allow_private in (False, True):
        with pytest.raises(AddressError):
            check_fetchable(url, allow_private=allow_private)


@pytest.mark.parametrize(
    "url", ["http://[::1%25eth0]/", "http://１２７.０.０.１/", "http://①②⑦.⓪.⓪.①/"]
)
def test_unicode_digits_are_judged_as_what_they_mean(url):
    """Digits that IDNA folds to ASCII are judged as the ASCII address."""
    with pytest.raises(AddressError, match="leads to"):
        check_fetchable(url)


@given(st.ip_addresses(v=4))
@example(ipaddress.ip_address("224.0.0.1"))
def test_every_ipv4_that_python_calls_not_global_is_refused(ip):
    """Our table is nowhere weaker than the standard library's."""
    if not ip.is_global or ip.is_multicast:
        with pytest.raises(AddressError):
            check_fetchable(f"http://{ip}/")


@given(
    st.one_of(
        st.ip_addresses(v=6),
        st.sampled_from(["fe80::/10", "fc00::/7", "2001::/23", "ff00::/8", "::/8"])
        .map(ipaddress.ip_network)
        .flatmap(lambda network: st.ip_addresses(network=network)),
    )
)
def test_every_ipv6_that_python_calls_not_global_is_refused(ip):
    """The same for IPv6; only what wraps a public IPv4 address is judged by that."""
    inner = ip.ipv4_mapped
    if (not ip.is_global and inner is None) or ip.is_multicast:
        with pytest.raises(AddressError):
            check_fetchable(f"http://[{ip}]/")


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "64:ff9b::"]))
def test_wrapped_addresses_are_judged_by_what_they_wrap(ip, wrapping):
    """A private IPv4 address is refused in each of its IPv6 clothes."""
    wrapped = f"{wrapping}{ip}"

    def verdict(host: str) -> bool:
        try:
            check_fetchable(f"http://{host}/")
        except AddressError:
            return False
        return True

    assert verdict(f"[{wrapped}]") == verdict(str(ip))


def test_one_private_answer_of_many_is_enough(monkeypatch):
    """A name with a public and a private IP address is refused as a whole."""
    answers = ("8.8.8.8", "10.0.0.1")
    monkeypatch.setattr(addresses, "_look_up", lambda *_: answers)
    with pytest.raises(AddressError, match=r"leads to 10\.0\.0\.1"):
        check_fetchable("http://pictures.example/cat.jpg")
    checked = check_fetchable("http://pictures.example/cat.jpg", allow_private=True)
    assert checked.ips == answers


def test_the_switch_opens_intranets_but_no_metadata():
    """allow_private takes private hosts and any port; metadata stays shut."""
    for url in ("http://127.0.0.1:25/", "http://10.0.0.1/", "http://[fd00::1]:81/"):
        check_fetchable(url, allow_private=True)
    for host in (
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "168.63.129.16",
    ):
        with pytest.raises(AddressError, match="hands out its secrets"):
            check_fetchable(f"http://{host}/", allow_private=True)


def test_a_scope_hides_no_metadata(monkeypatch):
    """An answer of the resolver with the name of a network card is the same place."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: ("fd00:ec2::254%1",))
    with pytest.raises(AddressError, match="secrets"):
        check_fetchable("http://x.example/", allow_private=True)


@pytest.mark.parametrize(
    ("port", "is_fine"),
    [(80, True), (443, True), (8080, True), (22, False), (25, False), (1023, False)],
)
def test_ports_of_mail_and_shells_are_refused(port, is_fine):
    """Below 1024 only the two ports of the web are taken."""
    url = f"http://8.8.8.8:{port}/"
    if is_fine:
        assert check_fetchable(url).port == port
    else:
        with pytest.raises(AddressError, match=f"names port {port}"):
            check_fetchable(url)


def test_a_checked_address_says_what_to_send(monkeypatch):
    """Host header, target and the name for the certificate, ready for the wire."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: ("8.8.8.8",))
    checked = check_fetchable("HTTPS://BÜCHER.example.:8443/ä/ü%20.jpg?q=é&s=a%2Bb#top")
    assert checked.scheme == "https"
    assert checked.host == "xn--bcher-kva.example"
    assert checked.authority == "xn--bcher-kva.example:8443"
    assert checked.target == "/%C3%A4/%C3%BC%20.jpg?q=%C3%A9&s=a%2Bb"
    assert repr(checked) == (
        "<CheckedAddress https://xn--bcher-kva.example:8443/%C3%A4/%C3%BC%20.jpg>"
    )
    assert check_fetchable("http://8.8.8.8").url == "http://8.8.8.8/"
    literal = check_fetchable("http://[2606:4700::1111]:8080/a", allow_private=True)
    assert literal.authority == "[2606:4700::1111]:8080"


def test_an_unknown_host_is_told(monkeypatch):
    """A resolver that knows nothing ends in an error of ours, with or without time."""

    def unknown(*_: object) -> tuple[str, ...]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(addresses, "_look_up", unknown)
    for timeout in (None, 5.0):
        with pytest.raises(FetchError, match="has no IP address"):
            check_fetchable("http://nowhere.example/?k=canary", timeout=timeout)
    monkeypatch.setattr(addresses, "_look_up", lambda *_: ())
    with pytest.raises(FetchError, match="has no IP address"):
        check_fetchable("http://nowhere.example/")


def test_a_resolver_that_hangs_is_left(monkeypatch):
    """Resolving is bound by the time of the call."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: time.sleep(3) or ("8.8.8.8",))
    start = time.monotonic()
    with pytest.raises(FetchDeadlineError) as caught:
        check_fetchable("http://slow.example/", timeout=0.2)
    assert time.monotonic() - start < 1
    assert caught.value.seconds == 0.2


def test_a_wrong_type_is_a_mistake_in_the_call():
    """Bytes are no address."""
    with pytest.raises(TypeError, match="as str"):
        check_fetchable(b"http://example.org/")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a.jpg",
        "http://LOCALHOST:8000/a.jpg",
        "http://printer/a.jpg",
        "http://nas.local/a.jpg",
        "http://nas.local./a.jpg",
        "http://api.internal/a.jpg",
        "http://metadata.google.internal/",
        "http://router.home.arpa/",
        "http://127.0.0.1/a.jpg",
        "http://0x7f.1/a.jpg",
        "http://2130706433/a.jpg",
        "http://[::1]/a.jpg",
        "http://[::ffff:10.0.0.1]/a.jpg",
        "http://10.1.2.3/a.jpg",
        "http://169.254.169.254/",
        "https://b.oss-cn-hangzhou-internal.aliyuncs.com/a.jpg",
        "file:///home/me/a.jpg",
        "FILE:///home/me/a.jpg",
        "ftp://example.org/a.jpg",
        "http://exa mple.org/",
        "not an address",
    ],
)
def test_addresses_that_the_server_cannot_reach_are_warned_of(url, monkeypatch):
    """A warning, found without asking any name server."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: pytest.fail("looked up"))
    (finding,) = check_address(url)
    assert (finding.code, finding.severity) == ("unreachable-address", "warning")
    assert finding.message.startswith("Expected a public address but ")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.jpg",
        "https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?Expires=1",
        "http://8.8.8.8/a.jpg",
        "http://[2606:4700:4700::1111]/a.jpg",
        "oss://bucket/a.jpg",
        "OSS://bucket/a.jpg",
        "data:image/png;base64,AAAA",
        "https://bücher.example/a.jpg",
    ],
)
def test_addresses_that_look_public_are_left_alone(url):
    """No warning where nothing is known to be wrong."""
    assert check_address(url) == ()


def test_the_internal_store_has_a_public_host():
    """The remedy names the host to write instead."""
    url = "https://b.oss-cn-beijing-internal.aliyuncs.com/a.jpg?Signature=canary"
    (finding,) = check_address(url)
    assert "b.oss-cn-beijing.aliyuncs.com" in finding.remedy
    assert "canary" not in f"{finding}"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@example.org:8/a?k=v#f", "https://example.org:8/a"),
        ("https://example.org?k=v", "https://example.org"),
        ("https://u:p@ss@example.org#k", "https://example.org"),
        ("cat.jpg?k=v", "cat.jpg"),
        ("https://u:p/q@example.org/a", "https://…"),
        ("https://u:p?q@example.org/a", "https://…"),
        ("https://u:p#q@example.org/a", "https://…"),
        ("https:/u:p@example.org/a", "…"),
        ("https://example.org:8/a@2.jpg", "https://example.org:8/a@2.jpg"),
        ("https://[::1]/a@2.jpg", "https://[::1]/a@2.jpg"),
        ("https://example.org:x/a", "https://example.org:x/a"),
        ("http://a/\x1b[2J", "http://a/�[2J"),
        ("http://a/" + "b" * 500, "http://a/" + "b" * 110 + "…"),
    ],
)
def test_secrets_are_not_shown(url, text):
    """User, password, query and fragment are left out, and what moves a cursor."""
    assert shown(url) == text
