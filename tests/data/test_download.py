"""Downloads from a server on this machine that breaks off, ignores ranges, changes its file or shows a web page."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from atrc_exp.data.prepare.download import download, require_checksum
from atrc_exp.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `content`; every answer ends after at most `limit` bytes of it."""

    content, tag, kind = CONTENT, '"1"', "application/gzip"
    limit: int | None = None
    ranges = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/set%201.tgz?key=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if self.headers.get("If-Range") not in (None, server.tag):
            start = 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(server.content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(server.content[start:][: server.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def get(server, folder):
    return download(server.url, folder, progress=False, pause=0.0)


def test_fetches_a_file_once(tmp_path, server):
    path = get(server, tmp_path / "new")
    assert path == tmp_path / "new" / "set 1.tgz" and path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["set 1.tgz"]
    assert get(server, tmp_path / "new") == path and server.asked == [None]


def test_a_broken_connection_is_resumed_where_it_stopped(tmp_path, server):
    server.limit = 100_000
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(("ranges", "tag"), [(False, '"1"'), (True, ""), (True, 'W/"1"')])
def test_servers_without_ranges_or_marks_send_all_again(tmp_path, server, ranges, tag):
    server.limit, server.ranges, server.tag = 100_000, ranges, tag
    with pytest.raises(UserError, match=r"failed 5 times .*100000 of 300000.* are kept"):
        get(server, tmp_path)
    server.limit = None
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_later_start_continues_and_another_version_starts_anew(tmp_path, server):
    server.limit = 0
    server.content = CONTENT[:70_000]
    with pytest.raises(UserError, match="start the command again to continue"):
        get(server, tmp_path)
    (tmp_path / "set 1.tgz.part").write_bytes(CONTENT[:50_000])
    server.limit, server.content = None, CONTENT
    assert get(server, tmp_path).read_bytes() == CONTENT and server.asked[-1] == "bytes=50000-"
    (tmp_path / "set 1.tgz").rename(tmp_path / "set 1.tgz.part")
    (tmp_path / "set 1.tgz.part.tag").write_text('"0"')
    server.content = CONTENT[::-1]
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]


def test_a_whole_part_is_recognised(tmp_path, server):
    (tmp_path / "set 1.tgz.part").write_bytes(CONTENT)
    (tmp_path / "set 1.tgz.part.tag").write_text('"1"')
    assert get(server, tmp_path).read_bytes() == CONTENT and server.asked == ["bytes=300000-"]


def test_a_web_page_is_no_archive(tmp_path, server):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="is a web page, not an archive"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 403])
def test_a_wrong_address_is_not_tried_again(tmp_path, server, status):
    server.status = status
    with pytest.raises(UserError, match=f" {status} "):
        get(server, tmp_path)
    assert len(server.asked) == 1 and list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path):
    with pytest.raises(UserError, match="the connection failed 5 times"):
        download("http://127.0.0.1:9/set.tgz", tmp_path, progress=False, pause=0.0)


def test_checksum(tmp_path):
    path = tmp_path / "a.tgz"
    path.write_bytes(CONTENT)
    require_checksum(path, hashlib.sha256(CONTENT).hexdigest().upper())
    with pytest.raises(UserError, match=r"a\.tgz: has the SHA-256 [0-9a-f]{64}, prepare\.sha256 is 00"):
        require_checksum(path, "0" * 64)
