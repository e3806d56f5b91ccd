"""Certificates of the secure servers: one authority and one certificate for this machine, made once
per folder of services.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=825)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of one folder. `make` comes first."""

    folder: Path

    @property
    def authority(self) -> Path:
        """What clients check with (PEM). Its key is thrown away: nothing else is ever signed."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The servers' certificate (PEM), for 127.0.0.1 and localhost."""
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        """Its private key (PEM, PKCS 8)."""
        return self.folder / "server.key"

    @property
    def both(self) -> Path:
        """Key and certificate in one file (PEM), as Kafka wants them."""
        return self.folder / "server.both.pem"

    def pkcs12(self, path: Path, password: str) -> None:
        """Writes both once more, as Cassandra wants them."""
        key = pkcs12.serialize_key_and_certificates(
            b"server",
            _load_key(self.key.read_bytes()),
            x509.load_pem_x509_certificate(self.certificate.read_bytes()),
            [x509.load_pem_x509_certificate(self.authority.read_bytes())],
            BestAvailableEncryption(password.encode()),
        )
        _write(path, key)

    def make(self) -> None:
        """Makes them, unless they are there and good for another month."""
        if self.authority.exists():
            made = x509.load_pem_x509_certificate(self.authority.read_bytes())
            if made.not_valid_after_utc > dt.datetime.now(dt.UTC) + dt.timedelta(days=30):
                return
        self.folder.mkdir(parents=True, exist_ok=True)
        authority_key, key = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "kn-chat services of this checkout")]
        )
        authority = (
            _begin(name, name, authority_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        )
        certificate = (
            _begin(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
                name,
                key.public_key(),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .add_extension(names, critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = certificate.public_bytes(Encoding.PEM)
        _write(self.key, private)
        _write(self.certificate, public)
        _write(self.both, private + public)
        # The last: it says that all are there.
        _write(self.authority, authority.public_bytes(Encoding.PEM))


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - one use

    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made above
    return key


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
