"""Download of one archive: resumed where it stopped, and in place only when it is whole."""

import hashlib
import http.client
import logging
import time
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from atrc_exp.errors import UserError

log = logging.getLogger(__name__)

_ATTEMPTS = 5  # without a single new byte
_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 1 << 20


def file_name(url: str) -> str:
    """The last part of an address."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def download(url: str, folder: Path, *, progress: bool = True, pause: float = 1.0) -> Path:
    """Fetch `url` to `folder`, or find it there; a part left by an earlier start is continued.

    The part is `<name>.part`; `<name>.part.tag` keeps the server's mark of the version, so that two versions of a file
    are never joined.

    Args:
        pause: seconds before the second attempt after a broken connection, twice as many before each further one.

    Raises:
        UserError: refused by the server, not reached after several attempts, or a web page instead of a file.
    """
    target = folder / file_name(url)
    if target.is_file():
        log.info("%s is there already", target)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{target.name}.part"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    failures = 0
    with Progress(*columns, disable=not progress) as bar:
        while True:
            before = _size(part)
            try:
                _fetch(url, part, bar)
                break
            except (OSError, http.client.HTTPException) as error:
                failures = failures + 1 if _size(part) <= before else 1
                if failures == _ATTEMPTS:
                    raise UserError(
                        f"{url}: the connection failed {failures} times ({_reason(error)}); "
                        f"{_size(part)} bytes are kept, start the command again to continue"
                    ) from error
                time.sleep(pause * 2 ** (failures - 1))
    part.replace(target)
    _tag_file(part).unlink(missing_ok=True)
    return target


def require_checksum(path: Path, sha256: str) -> None:
    """Refuse a file with another SHA-256.

    Raises:
        UserError: names the checksum found.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise UserError(
            f"{path}: has the SHA-256 {found}, prepare.sha256 is {sha256.lower()}; it is another file or damaged, "
            "remove it and get it again"
        )


def _fetch(url: str, part: Path, bar: Progress) -> None:
    """Append what is missing of `url` to `part`; an OSError or HTTPException where the connection broke."""
    try:
        answer = urlopen(_request(url, part), timeout=_TIMEOUT)
    except HTTPError as error:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and total == str(_size(part)):  # asked for what follows the last byte
            return
        if error.code == 416:
            part.unlink()  # of another version
            raise ConnectionError("the part on disk is not of this file") from error
        if error.code >= 500:
            raise
        raise UserError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise UserError(f"{url}: is a web page, not an archive; download the file by hand and give its path")
        resumed = answer.status == 206
        start = _size(part) if resumed else 0
        if resumed and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise ConnectionError("the server sent another part than the one asked for")
        length = answer.headers.get("Content-Length")
        total_bytes = start + int(length) if length is not None else None
        _tag_file(part).write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        row = bar.add_task(part.stem, total=total_bytes, completed=start)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.advance(row, len(chunk))
    if total_bytes is not None and _size(part) != total_bytes:
        raise ConnectionError(f"ended after {_size(part)} of {total_bytes} bytes")


def _request(url: str, part: Path) -> Request:
    """Ask for the rest of the file, or for all of it where it has changed since."""
    headers = {"Accept-Encoding": "identity"}
    tag = _tag_file(part).read_text() if _tag_file(part).is_file() else ""
    if _size(part) and tag and not tag.startswith("W/"):  # a weak mark does not promise the same bytes
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": tag}
    return Request(url, headers=headers)


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    return str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
