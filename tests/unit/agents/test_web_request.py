"""The web tool: what it reaches, and above all what it does not."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from holdfast.agents.config import WebSettings
from holdfast.agents.tools.web_request import Web, is_public, tool_of
from holdfast.errors import ToolFailed

from .conftest import Agents, Rules, agent, results, simple

Handler = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A web server on 127.0.0.1 that notes what it is asked and answers by a script."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Handler = self.plain("hello")
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @staticmethod
    def plain(text: str, kind: str = "text/plain", status: str = "200 OK", **more: str) -> Handler:
        async def answer(line: str, headers: dict[str, str], out: asyncio.StreamWriter) -> None:
            lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *map(": ".join, more.items())]
            out.write("\r\n".join([*lines, "Connection: close", "", text]).encode())

        return answer

    def redirect(self, to: str, status: str = "302 Found") -> Handler:
        return self.plain("", status=status, Location=to)

    async def _serve(self, come: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        head = (await come.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.strip().split("\r\n")
        headers = {k.lower(): v for k, _, v in (one.partition(": ") for one in rest)}
        self.asked.append((line, headers))
        try:
            await self.answer(line, headers, out)
            await out.drain()
        except ConnectionError:
            pass
        finally:
            out.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


def loopback_too(address: Any) -> bool:
    """Lets tests reach their server, and nothing else that is private."""
    return is_public(address) or address == ipaddress.ip_address("127.0.0.1")


def web(resolver: Any = None, **settings: Any) -> Web:
    more = {} if resolver is None else {"resolver": resolver}
    return Web(WebSettings(**settings), allowed=loopback_too, **more)


class Names:
    """A resolver whose names may change what they stand for."""

    def __init__(self, **hosts: Sequence[Sequence[str]]) -> None:
        self._hosts = {name.replace("_", "."): list(answers) for name, answers in hosts.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._hosts[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def test_a_page_is_read(server: Server) -> None:
    page = await web().fetch(f"http://127.0.0.1:{server.port}/a?b=c")
    assert (page.status, page.text, page.cut) == (200, "hello", False)
    ((line, headers),) = server.asked
    assert line == "GET /a?b=c HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["accept-encoding"] == "identity"


async def test_an_error_of_the_server_is_an_answer(server: Server) -> None:
    server.answer = server.plain("gone", status="410 Gone")
    assert (await web().fetch(f"http://127.0.0.1:{server.port}/")).status == 410


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",  # 127.0.0.1 as one number
        "http://0x7f.1:{port}/",
        "http://0:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:7f00:1::]/",
        "http://10.0.0.8/",
        "http://192.168.1.1/",
        "http://172.16.0.1/",
        "http://100.64.0.1/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://0.0.0.0:{port}/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ],
)
async def test_no_private_address_is_reached_however_it_is_written(
    server: Server, url: str
) -> None:
    with pytest.raises(ToolFailed, match="private address"):
        await Web(WebSettings()).fetch(url.format(port=server.port))
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//example.org/",
        "example.org",
        "http://",
        "http://a b/",
        "http://\x00/",
        "",
        "http://[::1",
        "http://example.org:99999/",
    ],
)
async def test_what_is_no_url_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(ToolFailed):
        await Web(WebSettings()).fetch(url)


async def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ToolFailed) as caught:
        await Web(WebSettings()).fetch("http://me:hunter2@example.org/")
    assert "hunter2" not in str(caught.value)


async def test_a_redirect_to_a_private_address_is_not_followed(server: Server) -> None:
    server.answer = server.redirect("http://169.254.169.254/latest/meta-data/")
    with pytest.raises(ToolFailed, match="private address"):
        await web().fetch(f"http://127.0.0.1:{server.port}/")
    assert len(server.asked) == 1


async def test_nor_one_to_a_name_that_stands_for_one(server: Server) -> None:
    names = Names(good_test=[["127.0.0.1"]], evil_test=[["10.1.2.3"]])
    server.answer = server.redirect("http://evil.test/")
    with pytest.raises(ToolFailed, match="private address"):
        await web(names).fetch(f"http://good.test:{server.port}/")
    assert names.asked == ["good.test", "evil.test"]


async def test_one_bad_address_among_good_ones_is_enough(server: Server) -> None:
    names = Names(mixed_test=[["127.0.0.1", "10.0.0.1"]])
    with pytest.raises(ToolFailed, match="private address"):
        await web(names).fetch(f"http://mixed.test:{server.port}/")
    assert server.asked == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    server: Server,
) -> None:
    # The second answer would be the attack; nobody asks for it. The name exists nowhere else, so
    # that a connection can only have gone to the checked address.
    names = Names(rebind_test=[["127.0.0.1"], ["169.254.169.254"]])
    page = await web(names).fetch(f"http://rebind.test:{server.port}/")
    assert page.text == "hello"
    assert names.asked == ["rebind.test"]
    ((_, headers),) = server.asked
    assert headers["host"] == f"rebind.test:{server.port}"


async def test_a_redirect_is_checked_anew(server: Server) -> None:
    names = Names(rebind_test=[["127.0.0.1"], ["169.254.169.254"]])
    server.answer = server.redirect("/again")
    with pytest.raises(ToolFailed, match="private address"):
        await web(names).fetch(f"http://rebind.test:{server.port}/")


async def test_redirects_have_an_end(server: Server) -> None:
    server.answer = server.redirect("/again")
    with pytest.raises(ToolFailed, match="redirected more than 5 times"):
        await web().fetch(f"http://127.0.0.1:{server.port}/")
    assert len(server.asked) == 6


async def test_a_redirect_to_another_scheme_is_not_followed(server: Server) -> None:
    server.answer = server.redirect("file:///etc/passwd")
    with pytest.raises(ToolFailed, match="no http or https"):
        await web().fetch(f"http://127.0.0.1:{server.port}/")


async def test_a_post_that_is_redirected_becomes_a_get(server: Server) -> None:
    async def answer(line: str, headers: dict[str, str], out: Any) -> None:
        then = server.redirect("/seen") if line.startswith("POST") else server.plain("seen")
        await then(line, headers, out)

    server.answer = answer
    page = await web(methods=["POST"]).fetch(
        f"http://127.0.0.1:{server.port}/", method="POST", body="{}", content_type="text/json"
    )
    assert page.text == "seen"
    assert [line.split()[0] for line, _ in server.asked] == ["POST", "GET"]
    assert server.asked[0][1]["content-type"] == "text/json"


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        (["good.test"], "good.test", True),
        (["good.test"], "GOOD.test", True),
        (["good.test"], "sub.good.test", False),
        (["*.good.test"], "sub.good.test", True),
        (["*.good.test"], "good.test", False),
        (["good.test"], "good.test.evil.test", False),
        (["*.good.test"], "evilgood.test", False),
    ],
)
async def test_only_the_named_hosts_are_asked(
    server: Server, hosts: list[str], host: str, allowed: bool
) -> None:
    async def here(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.1"]

    asks = web(here, hosts=hosts).fetch(f"http://{host}:{server.port}/")
    if allowed:
        assert (await asks).text == "hello"
        return
    with pytest.raises(ToolFailed, match="is not allowed"):
        await asks
    assert server.asked == []


async def test_methods_that_are_not_allowed_are_not_used(server: Server) -> None:
    with pytest.raises(ToolFailed, match="method DELETE is not allowed"):
        await web().fetch(f"http://127.0.0.1:{server.port}/", method="DELETE")
    assert server.asked == []


async def test_two_megabytes_are_cut_and_not_all_read(server: Server) -> None:
    sent = 0

    async def answer(line: str, headers: dict[str, str], out: asyncio.StreamWriter) -> None:
        nonlocal sent
        out.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
        for _ in range(2048):
            out.write(b"x" * 1024)
            await out.drain()
            sent += 1024

    server.answer = answer
    page = await web(max_bytes=10_000).fetch(f"http://127.0.0.1:{server.port}/")
    assert page.text == "x" * 10_000
    assert page.cut


async def test_a_slow_body_is_given_up(server: Server) -> None:
    done = asyncio.Event()

    async def answer(line: str, headers: dict[str, str], out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
        while not done.is_set():  # always a little, so that no silence is long
            out.write(b".")
            await out.drain()
            await asyncio.sleep(0.01)

    server.answer = answer
    try:
        with pytest.raises(ToolFailed, match=r"did not answer within 0\.2 s"):
            await web(timeout_s=0.2).fetch(f"http://127.0.0.1:{server.port}/")
    finally:
        done.set()


async def test_what_is_no_text_is_refused(server: Server) -> None:
    server.answer = server.plain("\x89PNG", kind="image/png")
    with pytest.raises(ToolFailed, match="image/png and no text"):
        await web().fetch(f"http://127.0.0.1:{server.port}/")


async def test_a_packed_answer_is_refused(server: Server) -> None:
    server.answer = server.plain("bomb", **{"Content-Encoding": "gzip"})
    with pytest.raises(ToolFailed, match="packed with gzip"):
        await web().fetch(f"http://127.0.0.1:{server.port}/")


async def test_a_server_that_is_not_there_is_told(server: Server) -> None:
    port = server.port
    await server.stop()
    with pytest.raises(ToolFailed, match="cannot be asked"):
        await web().fetch(f"http://127.0.0.1:{port}/")
    await server.start()


async def test_a_name_that_is_not_there_is_told() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(ToolFailed, match="cannot be found"):
        await web(nowhere).fetch("http://nowhere.test/")


async def test_the_environments_proxy_is_not_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert (await web().fetch(f"http://127.0.0.1:{server.port}/")).text == "hello"


def test_the_model_is_shown_only_what_it_may_use() -> None:
    only_get = WebSettings()
    assert tool_of(web(), only_get).args.keys() == {"url"}
    both = WebSettings(methods=["GET", "POST"], hosts=["good.test"])
    tool = tool_of(web(), both)
    assert tool.args.keys() == {"url", "method", "body", "content_type"}
    assert "good.test" in tool.description


async def test_an_agent_is_told_why_it_may_not(parts: Any) -> None:
    url = "http://169.254.169.254/latest/meta-data/"
    parts.rules = Rules([("web_request", {"url": url})], "I may not.")
    record = await Agents(agent(simple(tools=[{"type": "web_request"}]))).say()
    assert record.output["response"] == "I may not."
    (message,) = results(parts.rules.asked[-1])
    assert "private address" in message.text
    assert str(record.step("web_request").status) == "failed"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
