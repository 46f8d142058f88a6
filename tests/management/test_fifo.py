"""Splitting what comes from a FIFO into commands (specification 40, section 1.2)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pbx.management.fifo import LIMIT, CommandStream, good_name


class CommandStreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = CommandStream()

    def feed(self, *chunks: bytes) -> list[tuple[str, bytes]]:
        return [command for chunk in chunks for command in self.stream.feed(chunk)]

    def test_one_command(self) -> None:
        """No newline is needed."""
        self.assertEqual(self.feed(b':r:{"a":[1,{}]}'), [("r", b'{"a":[1,{}]}')])
        self.assertFalse(self.stream.incomplete)

    def test_several_commands(self) -> None:
        """Concatenated, with or without white space before each."""
        self.assertEqual(
            self.feed(b' \n:a:{}:b: {"x":"}"}\r\n\t:c:[{}]\n'),
            [("a", b"{}"), ("b", b' {"x":"}"}'), ("c", b"[{}]")],
        )

    def test_no_answer_wanted(self) -> None:
        self.assertEqual(self.feed(b"::{}"), [("", b"{}")])

    def test_braces_and_quotes_in_text(self) -> None:
        """Text in quotes ends nothing, escaped quotes neither."""
        text = rb'{"a":"}\"}]\\","b":["{[\\\"",":x:{}"]}'
        self.assertEqual(self.feed(b":r:" + text + b":s:{}"), [("r", text), ("s", b"{}")])

    def test_any_cut(self) -> None:
        """However the bytes arrive."""
        whole = b' :r1:{"a":"\\"}",\n"b":[]}\n::[1]\n:r2: {"\xc3\xa4":{}}'
        expected = self.feed(whole)
        self.assertEqual(len(expected), 3)
        for at in range(len(whole)):
            self.assertEqual(self.feed(whole[:at], whole[at:]), expected, whole[:at])
        self.assertEqual(self.feed(*(whole[i : i + 1] for i in range(len(whole)))), expected)

    def test_what_is_no_command_is_skipped(self) -> None:
        """Up to the next line."""
        self.assertEqual(self.feed(b"rubbish{}\n:r:{}"), [("r", b"{}")])
        self.assertEqual(self.feed(b"rubbish", b"more\n:r:{}")[-1:], [("r", b"{}")])
        self.assertEqual(self.feed(b":" + b"x" * 400, b"\n:r:{}"), [("r", b"{}")])
        self.assertFalse(self.stream.incomplete)

    def test_what_is_no_request_is_handed_on(self) -> None:
        """The dispatcher says so to who waits for an answer."""
        self.assertEqual(self.feed(b":r:which\n:s:{}"), [("r", b"which"), ("s", b"{}")])
        self.assertEqual(self.feed(b":r:{]}"), [("r", b"{]")])

    def test_end_of_input(self) -> None:
        """What is missing is an error of that command and of no other."""
        self.assertEqual(self.feed(b':r:{"a":'), [])
        self.assertTrue(self.stream.incomplete)
        self.assertEqual(self.stream.end(), ("r", b'{"a":'))
        self.assertEqual(self.feed(b":s:{}"), [("s", b"{}")])
        self.assertIsNone(self.stream.end())
        self.assertEqual(self.feed(b":half"), [])
        self.assertIsNone(self.stream.end())
        self.assertEqual(self.feed(b":s:{}"), [("s", b"{}")])

    def test_limit(self) -> None:
        """A command that does not end is cut off."""
        found = self.feed(b':r:{"', *[b"x" * 65536] * 20)
        self.assertEqual([name for name, _ in found], ["r"])
        self.assertGreater(len(found[0][1]), LIMIT - 65536)
        self.assertLess(len(found[0][1]), LIMIT + 65536)

    @given(st.lists(st.text(':{}[]"\\ a\n').map(str.encode), max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_rubbish(self, chunks: list[bytes]) -> None:
        """Whatever came before, the next writer is understood."""
        stream = CommandStream()
        for chunk in chunks:
            list(stream.feed(chunk))
        stream.end()
        self.assertEqual(list(stream.feed(b":s:{}")), [("s", b"{}")])


class ReplyNameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """No way out of the folder."""
        for name in ("", "opensips_fifo_reply_12_3", "x" * 255, "\xe4 b"):
            self.assertTrue(good_name(name), name)
        for name in ("a.b", "..", "a/b", "/tmp", "a\\b", "x" * 256, "\0", "a\nb"):
            self.assertFalse(good_name(name), name)
