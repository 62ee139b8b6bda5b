"""The root certificates are read completely, once; the system's certificates are not consulted later."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from aegis.host.net.http.transport import roots


def loaded(monkeypatch: pytest.MonkeyPatch, file: Path, folder: Path) -> ssl.SSLContext:
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    return roots.__wrapped__()


def test_roots_are_read_from_the_systems_file_and_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "bundle.pem", tmp_path / "hashed"
    folder.mkdir()
    first, second = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes()
    file.write_bytes(first)
    (folder / "0123abcd.0").write_bytes(second)
    (folder / "89abcdef.0").write_bytes(first)  # already in the file
    (folder / "notes.txt").write_text("no certificate")
    (folder / "00000000.1").write_text("no certificate either")
    (folder / "00000000.2").symlink_to("absent")
    assert loaded(monkeypatch, file, folder).cert_store_stats()["x509_ca"] == 2


def test_a_system_without_roots_verifies_by_those_of_certifi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certifi = pytest.importorskip("certifi")
    bundled = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bundled.load_verify_locations(certifi.where())
    found = loaded(monkeypatch, tmp_path / "absent.pem", tmp_path / "absent")
    assert found.cert_store_stats()["x509_ca"] == bundled.cert_store_stats()["x509_ca"]


def test_keys_are_never_written_to_a_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert roots.__wrapped__().keylog_filename is None
