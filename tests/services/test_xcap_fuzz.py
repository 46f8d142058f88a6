"""Whatever clients send, an XCAP server answers, and keeps good documents only."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbx.services.xcap.selectors import BadSelector, parse_selector
from pbx.services.xcap.trees import check, parse
from pbx.services.xcap.usages import USAGES
from tests.services.xcap_case import ATTRIBUTE, ELEMENT, FRIENDS, INDEX, LISTS, XCAPCase

#: Pieces of selectors, good and bad ones.
PIECES = st.sampled_from(
    (
        'resource-lists list entry * / // [1] [2] [0] [99] @name @uri [@name="friends"] '
        "[@uri='sip:1002@pbx.test'] [ ] \" namespace::* a:b ~~ display-name % %41 %C3%BC %FF &quot; ."
    ).split(" ")
)
SELECTORS = st.lists(PIECES, max_size=10).map("".join)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([FRIENDS, b'<entry uri="a"/>', b"<list/>", b"<list name='x'><list/></list>"]),
    st.text(alphabet="<>/='\" abc&;:!?-", max_size=40).map(str.encode),
)


class FuzzTests(XCAPCase):
    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(SELECTORS, st.text(alphabet="xmlns()=:a b", max_size=40))
    def test_selectors(self, path: str, query: str) -> None:
        try:
            found = parse_selector(path, query, "urn:x")
        except BadSelector:
            return
        self.assertGreaterEqual(len(found.steps), 1)

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.sampled_from(["GET", "PUT", "DELETE"]),
        SELECTORS,
        BODIES,
        st.sampled_from([LISTS, ELEMENT, ATTRIBUTE]),
    )
    def test_requests(self, method: str, selector: str, body: bytes, kind: str) -> None:
        """A clear answer; what is kept is a good document, whatever was asked for."""
        self.put()
        where = f"{INDEX}/~~/{selector}" if selector else INDEX
        answer = self.ask(method, where.replace('"', "%22"), body, kind)
        self.assertIn(answer.status, (200, 201, 304, 400, 404, 405, 409, 412, 413, 415))
        kept = self.documents.document("resource-lists", "1001@pbx.test")
        if kept is not None:
            check(USAGES["resource-lists"], parse(kept))

    def test_long_queries_take_no_time(self) -> None:
        """No quadratic work for strangers."""
        query = "xmlns(a=" + " " * 200_000
        self.assertEqual(len(parse_selector("a", query * 3, "urn:x").steps), 1)
        self.assertRaises(BadSelector, parse_selector, "a" + "[" * 200_000, "", "")
        self.assertRaises(BadSelector, parse_selector, "a/" * 200_000, "", "")
