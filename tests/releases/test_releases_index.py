"""Indexes over HTTP: what they answer, what they refuse, and what is downloaded."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from releases_kit import index, sdist

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import cached, find

Pip = Callable[..., None]


class Server:
    """An index that answers as a test says.

    Attributes:
        answers: path -> status, headers and contents.
        asked: the paths that were asked for, and the credentials.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self, archive: Path, url: str, *, digest: str | None = None) -> None:
        """Answer with the page of a project that has one file, in JSON."""
        sha = digest or hashlib.sha256(archive.read_bytes()).hexdigest()
        files = [{"filename": archive.name, "url": url, "hashes": {"sha256": sha}, "requires-python": ">=3.99"}]
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        self.answers["/simple/vllm/"] = 200, kind, json.dumps({"name": "vllm", "files": files}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, kit: Server, *arguments: Any) -> None:
        self._kit = kit
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._kit.asked.append((self.path, self.headers.get("Authorization", "")))
        status, headers, contents = self._kit.answers.get(self.path, (404, {"Content-Type": "text/html"}, b"none"))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(contents)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(contents)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    """An index on this machine."""
    made = Server()
    yield made
    made.close()


def test_a_download_with_its_progress(server: Server, tmp_path: Path, pip: Pip, onlooker: Any) -> None:
    archive = sdist(tmp_path, "0.33.0", {"__init__.py": "X = 1\n" * 100_000})
    server.page(archive, "../../files/vllm-0.33.0.tar.gz")
    # An index may send elsewhere.
    server.answers["/files/vllm-0.33.0.tar.gz"] = 302, {"Location": f"{server.url}/elsewhere"}, b""
    server.answers["/elsewhere"] = 200, {}, archive.read_bytes()
    pip(index_url=f"{server.url}/simple")
    (found,) = find(["0.33.0"], watcher=onlooker)
    assert found.sources.text("vllm") == "X = 1\n" * 100_000
    size = archive.stat().st_size
    assert onlooker.steps[-1] == ("vllm-0.33.0.tar.gz", size, size) and onlooker.notes == []


def test_a_digest_that_differs(server: Server, tmp_path: Path, pip: Pip, cache: Path) -> None:
    archive = sdist(tmp_path, "0.33.0")
    server.page(archive, "/f.tar.gz", digest="0" * 64)
    server.page(archive, "/vllm-0.33.0.tar.gz", digest="0" * 64)
    server.answers["/vllm-0.33.0.tar.gz"] = 200, {}, archive.read_bytes()
    pip(index_url=f"{server.url}/simple")
    with pytest.raises(ReleaseError, match="its digest differs"):
        find(["0.33.0"])
    assert cached() == [] and [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_file_that_is_gone(server: Server, tmp_path: Path, pip: Pip, cache: Path) -> None:
    server.page(sdist(tmp_path, "0.33.0"), "/vllm-0.33.0.tar.gz")
    pip(index_url=f"{server.url}/simple")
    with pytest.raises(ReleaseError, match=r"vllm-0.33.0.tar.gz' cannot be downloaded .*404"):
        find(["0.33.0"])
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_download_that_breaks_off(server: Server, tmp_path: Path, pip: Pip, cache: Path, onlooker: Any) -> None:
    archive = sdist(tmp_path, "0.33.0")
    server.page(archive, "/vllm-0.33.0.tar.gz")
    data = archive.read_bytes()
    server.answers["/vllm-0.33.0.tar.gz"] = 200, {"Content-Length": str(len(data))}, data[:-100]
    pip(index_url=f"{server.url}/simple")
    with pytest.raises(ReleaseError, match=r"cannot be downloaded"):
        find(["0.33.0"], watcher=onlooker)
    assert sum("broke off" in note and "tried again" in note for note in onlooker.notes) == 2
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_index_that_refuses_is_named(server: Server, tmp_path: Path, pip: Pip, status: int, onlooker: Any) -> None:
    server.answers["/simple/vllm/"] = status, {"Content-Type": "text/html"}, b"no"
    name, secret = "user", "pass" + "word1"
    address = server.url.replace("http://", f"http://{name}:{secret}@")
    pip(index_url=f"{address}/simple")
    with pytest.raises(ReleaseError, match=f"it answers {status}") as raised:
        find(["0.33.0"])
    assert secret not in str(raised.value)
    # Another one has it: there is nothing to say about a number; a range may lack releases.
    pip(index_url=f"{address}/simple", extra_index_url=index(tmp_path / "index", sdist(tmp_path, "0.33.0")))
    assert find(["0.33.0"], watcher=onlooker) and onlooker.notes == []
    assert find([">=0.33"], watcher=onlooker)
    assert f"it answers {status}" in onlooker.notes[0] and secret not in onlooker.notes[0]


def test_the_password_of_an_index_is_used(server: Server, tmp_path: Path, pip: Pip) -> None:
    archive = sdist(tmp_path, "0.33.0")
    server.page(archive, "/vllm-0.33.0.tar.gz")
    server.answers["/vllm-0.33.0.tar.gz"] = 200, {}, archive.read_bytes()
    name, secret = "user", "pass" + "word1"
    pip(index_url=server.url.replace("http://", f"http://{name}:{secret}@") + "/simple")
    assert find(["0.33.0"])
    sent = "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
    assert ("/simple/vllm/", sent) in server.asked


@pytest.mark.parametrize("page", [b"", b"<html>", b"\xff\xfe", b"{"])
@pytest.mark.parametrize("kind", ["text/html", "application/vnd.pypi.simple.v1+json", "text/plain"])
def test_a_page_that_is_none(server: Server, pip: Pip, page: bytes, kind: str) -> None:
    server.answers["/simple/vllm/"] = 200, {"Content-Type": kind}, page
    pip(index_url=f"{server.url}/simple")
    with pytest.raises(ReleaseError, match=r"vllm 0.33.0 is not in the cache"):
        find(["0.33.0"])


def test_an_index_that_is_not_encrypted_has_to_be_trusted(pip: Pip) -> None:
    pip(index_url="http://index.invalid/simple")
    with pytest.raises(ReleaseError, match="not encrypted, and no trusted-host"):
        find(["0.33.0"])
    pip(index_url="http://index.invalid/simple", trusted_host="index.invalid", proxy="http://127.0.0.1:9")
    with pytest.raises(ReleaseError, match=r"index.invalid/simple \((?!it is not encrypted)"):
        find(["0.33.0"])


def test_find_links_alone(tmp_path: Path, pip: Pip) -> None:
    sdist(tmp_path / "links", "0.33.0")
    pip(no_index="1", find_links=str(tmp_path / "links"))
    assert [each.version for each in find(["newest"])] == ["0.33.0"]


@pytest.mark.parametrize("place", ["nowhere/simple", "https://[", "::::", "https://a:b/simple"])
def test_an_address_that_is_none(pip: Pip, place: str) -> None:
    pip(index_url=place)
    with pytest.raises(ReleaseError, match=r"vllm 0.33.0 is not in the cache, and where pip looks could not be asked"):
        find(["0.33.0"])
