"""The options of ``twistd pbx`` and what becomes of a start that fails."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError
from pbx.tables import SETTINGS
from pbx.tap import Options, fault_lines


class OptionsTests(SynchronousTestCase):
    def exit(self, *arguments: str) -> tuple[object, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            self.assertRaises(SystemExit) as caught,
        ):
            Options().parseOptions(list(arguments))
        return caught.exception.code, out.getvalue(), err.getvalue()

    def config(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_usage(self) -> None:
        """Status 2."""
        for arguments in (["--none"], ["surplus"], ["--config"]):
            status, out, err = self.exit(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("twistd pbx --help", err)

    def test_check_finds_every_fault(self) -> None:
        """Status 1; a line per fault with file, table, key and what would be right."""
        path = self.config('[sip]\ndomian = "x"\n[registrar]\nmax_contacts = "1"\n')
        status, out, err = self.exit("--check", "-c", path)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(
            sorted(err.splitlines()),
            [
                f"{path}: {line}"
                for line in (
                    "[registrar] max_contacts: expected a number, not '1'",
                    "[sip] domain: missing",
                    "[sip] domian: unknown; did you mean domain?",
                )
            ],
        )

    def test_check_of_a_file_that_is_none(self) -> None:
        """The file is named once."""
        status, _, err = self.exit("--check", "-c", "/none/such.toml")
        expected = "/none/such.toml: cannot be read: No such file or directory\n"
        self.assertEqual((status, err), (1, expected))

    def test_reference(self) -> None:
        """Every table."""
        status, out, _ = self.exit("--reference")
        self.assertEqual(status, 0)
        for name in SETTINGS:
            self.assertIn(f"[{name}]\n", out)

    def parsed(self, *arguments: str) -> ServerOptions:
        options = ServerOptions()
        options.parseOptions([*arguments, "pbx", "-c", "x.toml"])
        return options

    def test_foreground_needs_no_process_file(self) -> None:
        """Two instances in one folder do not get in each other's way; --pidfile is obeyed."""
        self.assertEqual(self.parsed("-n")["pidfile"], "")
        self.assertTrue(self.parsed("-n", "--pidfile=a.pid")["pidfile"].endswith("a.pid"))
        self.assertTrue(self.parsed()["pidfile"].endswith("twistd.pid"))


class FaultTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """What an operator can mend is one line each; our own mistakes are none."""
        in_use = OSError(98, "Address already in use")
        listen = CannotListenError("127.0.0.1", 5060, in_use)
        for error, lines in (
            (ConfigError("a", "b"), ["a", "b"]),
            (listen, ["cannot listen on 127.0.0.1:5060: Address already in use"]),
            (OSError(30, "Read-only file system", "var"), ["Read-only file system: var"]),
            (ValueError("x"), []),
        ):
            self.assertEqual(list(fault_lines(Failure(error))), lines)
