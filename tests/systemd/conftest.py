"""The machine with the package installed, for all tests of a run."""

import os
import pathlib

import pytest
import service as installed
from machine import Machine, NotAllowedError, booted, probe


@pytest.fixture(scope="session")
def allowed():
    """Skip where this host allows no machine."""
    try:
        probe()
    except NotAllowedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def package() -> str:
    """Find the Debian package under test."""
    path = os.environ.get("FRAMEPIPE_PACKAGE", "")
    assert pathlib.Path(path).is_file(), f"FRAMEPIPE_PACKAGE={path!r} is no package: run scripts/test-systemd"
    return path


@pytest.fixture(scope="session")
def machine(allowed, package) -> Machine:
    """Boot a machine with the package."""
    with booted() as machine:
        machine.run("dpkg", "--install", package)
        yield machine


@pytest.fixture()
def service(machine) -> installed.Service:
    """Take the service, which is down."""
    service = installed.Service(machine)
    assert service.show("ActiveState") == "inactive", service.explain()
    return service
