"""What a page answers to its own windows, through a tunnel, and to other sites."""

import logging
import socket
import sys
import types

import pytest

from pcsa.viz import origins
from pcsa.viz.origins import is_loopback, refusal


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "http://localhost:8080"),
        ("localhost:9123", "http://localhost:9123"),  # through a tunnel
        ("LOCALHOST", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("127.0.0.1:8080", None),
        ("scans.localhost:8080", "https://scans.localhost:8080"),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_its_own_pages_are_answered(host, origin, loopback):
    assert refusal(host, origin, loopback=loopback) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "https://example.org"),
        ("localhost:8080", "http://localhost:3000"),  # another program of this machine
        ("localhost:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "null"),
        ("localhost:8080", ""),
        ("localhost:8080", "http://localhost:8080.example.org"),
        ("localhost:8080", "http://localhost:x"),
        ("localhost:8080", "http://[::1"),
        ("[::1", "http://[::1"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_other_sites_are_not(host, origin, loopback):
    assert refusal(host, origin, loopback=loopback) is not None


@pytest.mark.parametrize("origin", ["http://example.org:8080", None])
def test_a_name_that_was_made_to_lead_here_is_refused_where_only_this_machine_is_served(origin):
    assert "open the page as localhost" in refusal("example.org:8080", origin, loopback=True)
    assert refusal("example.org:8080", origin, loopback=False) is None


def test_interfaces_of_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "192.168.0.1", "example.org")))


def shake(port, **headers):
    """The answer to a websocket's first words."""
    viser = pytest.importorskip("viser")
    asked = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}",
        **headers,
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\n{text}\r\n".encode())
        return raw.recv(4096).decode(errors="replace")


def test_a_websocket_is_opened_by_its_own_page_only():
    viser = pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")
    from pcsa.viz.page import Page

    kept = viser.infra._infra.websockets
    with Page("x", port=0) as page:
        assert viser.infra._infra.websockets is kept
        port = page.server.get_port()
        assert shake(port, Origin=f"http://127.0.0.1:{port}").startswith("HTTP/1.1 101")
        assert shake(port).startswith("HTTP/1.1 101")
        # Through `ssh -L 9999:localhost:PORT`.
        tunnel = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
        assert shake(port, **tunnel).startswith("HTTP/1.1 101")
        for foreign in ("https://example.org", "null", f"http://localhost:{port}", "http://127.0.0.1:1"):
            said = shake(port, Origin=foreign)
            assert said.startswith("HTTP/1.1 403")
            assert "is another site" in said
        assert "as localhost" in shake(port, Host="example.org", Origin="http://example.org")
        assert shake(port, Upgrade="WebSocket", Origin="https://example.org").startswith("HTTP/1.1 403")
    # Servers of others in the same process are their own business.
    other = viser.ViserServer("127.0.0.1", 0, verbose=False)
    try:
        assert shake(other.get_port(), Origin="https://example.org").startswith("HTTP/1.1 101")
    finally:
        other.stop()


def test_a_server_without_the_check_is_told(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "viser.infra._infra", types.ModuleType("viser.infra._infra"))
    with caplog.at_level(logging.WARNING), origins.only_from_own_pages("127.0.0.1"):
        pass
    assert "without a check of who asks" in caplog.text
