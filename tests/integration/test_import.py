"""``pbxctl import`` as an operator runs it: what it writes passes ``twistd pbx --check``."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tests" / "importer"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voice.example")])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2050))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "edge.pem", folder / "edge.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


class ImportTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)

    def run_program(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            arguments,
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def ctl(self, *arguments: str) -> tuple[int, str, str]:
        return self.run_program(sys.executable, "-m", "pbx.ctl.main", "import", *arguments)

    def check(self, path: str) -> None:
        """The PBX takes it, and would do nothing yet."""
        twistd = str(Path(sys.executable).parent / "twistd")
        status, out, err = self.run_program(twistd, "-n", "pbx", "--check", "-c", path)
        self.assertEqual(status, 0, out + err)

    def test_written_files_pass_the_check(self) -> None:
        """All examples; the tables of the report are those of the file."""
        pem, key = certificate(self.base)
        for path in sorted(EXAMPLES.glob("*.cfg")):
            source = path.read_text().replace("@certificate@", str(pem)).replace("@key@", str(key))
            (self.base / path.name).write_text(source)
            status, out, err = self.ctl(path.name, "--json")
            self.assertEqual((status, err), (0, ""), path.name)
            found = json.loads(out)
            self.assertEqual(found["output"], f"{path.stem}.toml")
            self.check(found["output"])
            if path.stem.startswith("edge"):
                self.assertEqual(found["tables"]["tls"]["certificate"], str(pem))

    def test_report(self) -> None:
        """Three lists for people; nothing of ours is overwritten by accident."""
        source = str(EXAMPLES / "reference.cfg")
        status, out, err = self.ctl(source, "-o", "new.toml")
        self.assertEqual((status, err), (0, ""))
        for expected in ("UNDERSTOOD", "DIFFERENT HERE", "LEFT OUT", "TO DO", "all 20 rules"):
            self.assertIn(expected, out)
        self.assertEqual((self.base / "new.toml").stat().st_mode & 0o777, 0o640)
        status, out, err = self.ctl(source, "-o", "new.toml")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(
            err, "pbxctl: new.toml: exists already; --force replaces it, -o names another\n"
        )
        self.assertEqual(self.ctl(source, "-o", "new.toml", "--force")[0], 0)

    def test_bad_files(self) -> None:
        (self.base / "bad.cfg").write_text("route {")
        for name, text in (("bad.cfg", "never closed"), ("none.cfg", "No such file")):
            status, out, err = self.ctl(name)
            self.assertEqual((status, out, len(err.splitlines())), (1, "", 1))
            self.assertIn(text, err)
        self.assertEqual(list(self.base.glob("*.toml")), [])
