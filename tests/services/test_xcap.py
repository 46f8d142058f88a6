"""Documents by XCAP (RFC 4825): whole ones, parts of them, conditions and refusals."""

from __future__ import annotations

from pbx.errors import DatabaseError, Kind
from pbx.events import DocumentChanged, TableChanged
from tests.services.xcap_case import (
    ATTRIBUTE,
    ELEMENT,
    FRIENDS,
    INDEX,
    LISTS,
    RULES,
    SERVICES,
    XCAPCase,
    etag,
)

LIST = f"{INDEX}/~~/resource-lists/list%5b@name=%22friends%22%5d"
RULESET = (
    b'<cr:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules"'
    b' xmlns:cr="urn:ietf:params:xml:ns:common-policy"><cr:rule id="a"><cr:conditions>'
    b'<cr:identity><cr:one id="sip:1002@pbx.test"/></cr:identity></cr:conditions>'
    b"<cr:actions><sub-handling>%s</sub-handling></cr:actions></cr:rule></cr:ruleset>"
)


class DocumentTests(XCAPCase):
    def test_comes_back_byte_for_byte(self) -> None:
        self.assertEqual(self.get(), 404)
        self.assertEqual(self.put(), 201)
        answer = self.ask("GET", INDEX)
        self.assertEqual((answer.status, answer.body), (200, FRIENDS))
        self.assertEqual(dict(answer.headers)["Content-Type"], LISTS)

    def test_changes_give_another_tag(self) -> None:
        first = self.ask("PUT", INDEX, FRIENDS, LISTS)
        self.assertEqual(etag(self.ask("GET", INDEX)), etag(first))
        second = self.ask("PUT", INDEX, FRIENDS, LISTS)
        self.assertEqual(second.status, 200)
        self.assertNotEqual(etag(first), etag(second))

    def test_delete(self) -> None:
        self.put()
        self.assertEqual(self.ask("DELETE", INDEX).status, 200)
        self.assertEqual(self.get(), 404)
        self.assertEqual(self.ask("DELETE", INDEX).status, 404)

    def test_row(self) -> None:
        self.put()
        sql = "SELECT username, domain, doc_type, doc_uri, doc, source, port FROM xcap"
        [row] = self.wait(self.database.query(sql))
        self.assertEqual(tuple(row), ("1001", "pbx.test", 4, "index", FRIENDS, 0, 0))
        self.ask("DELETE", INDEX)
        self.assertEqual(self.wait(self.database.query(sql)), [])

    def test_survives_a_crash(self) -> None:
        """What was answered is in the database."""
        tag = etag(self.ask("PUT", INDEX, FRIENDS, LISTS))
        self.build()
        self.assertEqual(etag(self.ask("GET", INDEX)), tag)
        self.assertEqual(self.get(), FRIENDS)

    def test_user_identifiers(self) -> None:
        """With and without scheme, escaped, at our own address, or just the name."""
        self.put()
        for xui in ("1001@pbx.test", "sip%3A1001%40pbx.test", "sip:1001@192.0.2.1", "1001"):
            self.assertEqual(self.get(f"resource-lists/users/{xui}/index"), FRIENDS, xui)

    def test_changes_are_told(self) -> None:
        self.put()
        self.assertEqual(
            self.changes, [DocumentChanged("resource-lists", "1001@pbx.test", "index")]
        )
        self.put()
        self.ask("DELETE", INDEX)
        self.assertEqual(len(self.changes), 2)

    def test_rows_of_other_programs(self) -> None:
        self.put()
        self.changes.clear()
        self.wait(
            self.database.execute(
                "INSERT INTO xcap (username, domain, doc, doc_type, etag, source, doc_uri, port)"
                " VALUES ('1002', 'PBX.test', ?, 2, 'x', 0, 'index', 0)",
                (RULESET % b"allow",),
            )
        )
        for _ in range(3):
            self.events.publish(TableChanged("xcap"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        self.assertEqual(self.changes, [DocumentChanged("pres-rules", "1002@pbx.test", "index")])
        self.wait(self.database.execute("DELETE FROM xcap"))
        self.events.publish(TableChanged("xcap"))
        self.clock.advance(2)
        self.assertEqual(len(self.changes), 3)
        self.assertEqual(self.documents.count_of("1001@pbx.test"), 0)

    def test_strange_rows(self) -> None:
        """Of other programs: left out, the others are there."""
        self.put()
        for user, number, name, tag in (
            ("", 4, "index", "x"),
            ("1002", "x", "index", "x"),
            ("1002", 4, "", "x"),
            ("1002", 4, "index", ""),
            ("1002", 64, "index", "x"),
        ):
            self.wait(
                self.database.execute(
                    "INSERT INTO xcap (username, domain, doc, doc_type, etag, source, doc_uri, port)"
                    " VALUES (?, 'pbx.test', 'x', ?, ?, 0, ?, 0)",
                    (user, number, tag, name),
                )
            )
        self.build()
        self.assertEqual(self.documents.statistics(), {"xcap:documents": 1})
        self.assertEqual(self.get(), FRIENDS)

    def test_capabilities(self) -> None:
        body = self.get("xcap-caps/global/index")
        assert isinstance(body, bytes)
        for auid in ("pres-rules", "resource-lists", "rls-services", "pidf-manipulation"):
            self.assertIn(f"<auid>{auid}</auid>".encode(), body)
        self.assertEqual(self.ask("PUT", "xcap-caps/global/index", b"x").status, 405)
        self.assertEqual(self.get("xcap-caps/global/index", user=""), 401)


class ElementTests(XCAPCase):
    def setUp(self) -> None:
        super().setUp()
        self.put()

    def test_get(self) -> None:
        answer = self.ask("GET", f"{LIST}/entry%5b2%5d")
        self.assertEqual(dict(answer.headers)["Content-Type"], ELEMENT)
        self.assertIn(b'uri="sip:1003@pbx.test"', answer.body)
        self.assertEqual(etag(answer), etag(self.ask("GET", INDEX)))

    def test_get_attribute(self) -> None:
        answer = self.ask("GET", f"{LIST}/@name")
        self.assertEqual((answer.status, answer.body), (200, b"friends"))
        self.assertEqual(dict(answer.headers)["Content-Type"], ATTRIBUTE)

    def test_get_nothing_or_several(self) -> None:
        """A selector must name exactly one node (6.3)."""
        for part in ("/entry", "/entry%5b3%5d", "/display-name", "/@none", "/entry%5b1%5d/x"):
            self.assertEqual(self.get(LIST + part), 404, part)

    def test_namespaces(self) -> None:
        answer = self.ask("GET", f"{LIST}/namespace::*")
        self.assertEqual(dict(answer.headers)["Content-Type"], "application/xcap-ns+xml")
        self.assertIn(b'xmlns="urn:ietf:params:xml:ns:resource-lists"', answer.body)
        self.assertEqual(self.ask("PUT", f"{LIST}/namespace::*").status, 405)

    def test_wildcard_and_prefix(self) -> None:
        prefix = "?xmlns(r=urn:ietf:params:xml:ns:resource-lists)"
        self.assertIn(b"1003", self.get(f"{INDEX}/~~/*/*/*%5b2%5d"))
        self.assertIn(
            b"1003",
            self.get(f"{INDEX}/~~/r:resource-lists/r:list/r:entry%5b2%5d{prefix}"),
        )

    def test_bad_selectors(self) -> None:
        for selector in ("", "/", "//list", "a:b", "list%5b0%5d", "list%5b", "@a", "a/@b/c", "%FF"):
            self.assertEqual(self.get(f"{INDEX}/~~/{selector}"), 400, selector)

    def test_add_without_namespace(self) -> None:
        """A fragment is read in the namespaces of where it goes (7.4)."""
        entry = b'<entry uri="sip:1004@pbx.test"><display-name>Dave</display-name></entry>'
        where = f"{LIST}/entry%5b@uri=%22sip:1004@pbx.test%22%5d"
        self.assertEqual(self.put(where, entry, ELEMENT), 201)
        body = self.get()
        assert isinstance(body, bytes)
        self.assertIn(b"<!-- mine -->", body)
        self.assertIn(entry, body)
        self.assertLess(body.index(b"1003"), body.index(b"1004"))
        self.assertEqual(self.put(where, entry, ELEMENT), 200)

    def test_position(self) -> None:
        where = f"{LIST}/entry%5b1%5d%5b@uri=%22sip:1000@pbx.test%22%5d"
        self.assertEqual(self.put(where, b'<entry uri="sip:1000@pbx.test"/>', ELEMENT), 201)
        body = self.get()
        assert isinstance(body, bytes)
        self.assertLess(body.index(b"1000"), body.index(b"1002"))
        far = f"{LIST}/entry%5b9%5d"
        self.assertEqual(
            self.conflict(self.ask("PUT", far, b'<entry uri="sip:9@pbx.test"/>', ELEMENT)),
            "cannot-insert",
        )

    def test_attributes(self) -> None:
        self.assertEqual(
            self.put(f"{LIST}/entry%5b1%5d/@uri", b"sip:a&amp;b@pbx.test", ATTRIBUTE), 200
        )
        self.assertEqual(self.get(f"{LIST}/entry%5b1%5d/@uri"), b"sip:a&b@pbx.test")
        self.assertEqual(self.put(f"{LIST}/entry%5b1%5d/@new", b"x", ATTRIBUTE), 201)
        self.assertEqual(self.ask("DELETE", f"{LIST}/entry%5b1%5d/@new").status, 200)
        self.assertEqual(self.get(f"{LIST}/entry%5b1%5d/@new"), 404)

    def test_delete(self) -> None:
        self.assertEqual(self.ask("DELETE", f"{LIST}/entry%5b2%5d").status, 200)
        body = self.get()
        assert isinstance(body, bytes)
        self.assertNotIn(b"1003", body)
        self.assertIn(b"1002", body)

    def test_conflicts(self) -> None:
        """409 says what is wrong, and nothing changes (section 11)."""
        entry = b'<entry uri="sip:1002@pbx.test"/>'
        new = f"{LIST}/entry%5b@uri=%22sip:9@pbx.test%22%5d"
        for method, where, body, kind, cause in (
            ("PUT", new, entry, ELEMENT, "cannot-insert"),
            ("PUT", f"{LIST}/entry%5b3%5d", entry, ELEMENT, "uniqueness-failure"),
            ("PUT", f"{INDEX}/~~/resource-lists/none/x", b"<x/>", ELEMENT, "no-parent"),
            ("PUT", f"{LIST}/entry%5b3%5d", b"<entry/>", ELEMENT, "schema-validation-error"),
            ("PUT", f"{LIST}/none", b"<none/>", ELEMENT, "schema-validation-error"),
            ("PUT", f"{LIST}/entry%5b3%5d", b"<entry", ELEMENT, "not-xml-frag"),
            ("PUT", f"{LIST}/entry%5b3%5d", entry + entry, ELEMENT, "not-xml-frag"),
            ("PUT", f"{LIST}/entry%5b3%5d", b"</fragment><fragment>", ELEMENT, "not-xml-frag"),
            ("PUT", f"{LIST}/entry%5b3%5d", b"text", ELEMENT, "not-xml-frag"),
            ("PUT", f"{LIST}/entry%5b3%5d", b"\xff", ELEMENT, "not-utf-8"),
            ("PUT", f"{LIST}/@name", b'"', ATTRIBUTE, "not-xml-att-value"),
            ("PUT", f"{LIST}/@name", b'" x="', ATTRIBUTE, "not-xml-att-value"),
            ("PUT", f"{LIST}/@name", b"enemies", ATTRIBUTE, "cannot-insert"),
            ("DELETE", f"{LIST}/entry%5b1%5d", b"", "", "cannot-delete"),
            ("DELETE", f"{INDEX}/~~/resource-lists", b"", "", "cannot-delete"),
        ):
            answer = self.ask(method, where, body, kind)
            self.assertEqual(self.conflict(answer), cause, (method, where, body))
        self.assertEqual(self.get(), FRIENDS)

    def test_part_of_a_document_that_is_not_there(self) -> None:
        other = "resource-lists/users/sip:1001@pbx.test/other/~~/resource-lists"
        self.assertEqual(self.get(other), 404)
        self.assertEqual(self.ask("DELETE", other).status, 404)
        self.assertEqual(
            self.conflict(self.ask("PUT", other, b"<resource-lists/>", ELEMENT)), "no-parent"
        )

    def test_type_of_a_part(self) -> None:
        self.assertEqual(self.put(f"{LIST}/entry%5b1%5d", b"<entry/>", LISTS), 415)
        self.assertEqual(self.put(f"{LIST}/@name", b"x", ELEMENT), 415)


class ConditionTests(XCAPCase):
    """RFC 4825 section 7.11: one tag for the document and all of its parts."""

    def test_if_match(self) -> None:
        tag = etag(self.ask("PUT", INDEX, FRIENDS, LISTS))
        self.assertEqual(self.put(if_match='"other"'), 412)
        new = f"{LIST}/entry%5b@uri=%22sip:9@pbx.test%22%5d"
        entry = b'<entry uri="sip:9@pbx.test"/>'
        self.assertEqual(self.put(new, entry, ELEMENT, if_match='"other"'), 412)
        self.assertEqual(self.put(new, entry, ELEMENT, if_match=f'"a", {tag}'), 201)
        self.assertEqual(self.ask("DELETE", INDEX, if_match=tag).status, 412)
        self.assertEqual(self.ask("DELETE", INDEX, if_match="*").status, 200)
        self.assertEqual(self.put(if_match="*"), 412)

    def test_if_none_match(self) -> None:
        self.assertEqual(self.put(if_none_match="*"), 201)
        self.assertEqual(self.put(if_none_match="*"), 412)
        new = f"{LIST}/entry%5b@uri=%22sip:9@pbx.test%22%5d"
        entry = b'<entry uri="sip:9@pbx.test"/>'
        self.assertEqual(self.put(new, entry, ELEMENT, if_none_match="*"), 201)
        self.assertEqual(self.put(new, entry, ELEMENT, if_none_match="*"), 412)
        tag = etag(self.ask("GET", INDEX))
        self.assertEqual(self.ask("GET", INDEX, if_none_match=tag).status, 304)
        self.assertEqual(self.ask("GET", INDEX, if_none_match=f"W/{tag}").status, 304)
        self.assertEqual(self.ask("GET", INDEX, if_none_match='"other"').status, 200)


class RefusalTests(XCAPCase):
    def test_login(self) -> None:
        answer = self.ask("GET", INDEX, user="")
        self.assertEqual(answer.status, 401)
        self.assertEqual(dict(answer.headers)["WWW-Authenticate"], 'Digest realm="pbx.test"')

    def test_somebody_elses(self) -> None:
        for method in ("GET", "PUT", "DELETE"):
            self.assertEqual(self.ask(method, INDEX, user="1002@pbx.test").status, 403)

    def test_no_such_place(self) -> None:
        for uri in (
            "",
            "none/users/sip:1001@pbx.test/index",
            "resource-lists/global/index",
            "resource-lists/users/sip:1001@pbx.test",
            "resource-lists/users/sip:1001@pbx.test/",
            "resource-lists/users/sip:1001@pbx.test/..",
            "resource-lists/users/sip:1001@elsewhere.test/index",
            "resource-lists/users/%00/index",
            "resource-lists/users/sip:1001@pbx.test/" + 256 * "x",
        ):
            self.assertEqual(self.get(uri), 404, uri)

    def test_method(self) -> None:
        answer = self.ask("POST", INDEX, FRIENDS, LISTS)
        self.assertEqual(answer.status, 405)
        self.assertEqual(dict(answer.headers)["Allow"], "GET, HEAD, PUT, DELETE")

    def test_type_and_size(self) -> None:
        self.assertEqual(self.put(kind="text/xml"), 415)
        self.assertEqual(self.put(kind=""), 415)
        self.assertEqual(self.put(body=b" " * 5000), 413)
        self.assertEqual(self.put(kind=f"{LISTS};charset=utf-8"), 201)

    def test_grows_too_large_by_parts(self) -> None:
        self.put()
        where = f"{LIST}/entry%5b3%5d"
        entry = b'<entry uri="sip:%s@pbx.test"/>' % (4000 * b"x")
        self.assertEqual(
            self.conflict(self.ask("PUT", where, entry, ELEMENT)), "constraint-failure"
        )

    def test_quota(self) -> None:
        base = "resource-lists/users/sip:1001@pbx.test/"
        self.assertEqual([self.put(f"{base}{n}") for n in range(4)], [201, 201, 201, 409])
        self.assertEqual(self.put(f"{base}1"), 200)

    def test_bad_documents(self) -> None:
        """Clear causes; entities, external or many, are never looked at."""
        bomb = b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><r>&b;</r>'
        outside = b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>'
        name = b"urn:ietf:params:xml:ns:resource-lists"
        for body, cause in (
            (b"", "not-well-formed"),
            (b"<a>", "not-well-formed"),
            (b"\xff\xfe", "not-utf-8"),
            ("<a>ü</a>".encode("latin-1"), "not-utf-8"),
            (b'<?xml version="1.0" encoding="utf-16"?><a/>', "not-well-formed"),
            (bomb, "not-well-formed"),
            (outside, "not-well-formed"),
            (b"<a/>", "schema-validation-error"),
            (b'<resource-lists xmlns="urn:other"/>', "schema-validation-error"),
            (
                b'<resource-lists xmlns="%s"><entry uri="a"/></resource-lists>' % name,
                "schema-validation-error",
            ),
            (
                b'<resource-lists xmlns="%s"><list name="a"/><list name="a"/></resource-lists>'
                % name,
                "uniqueness-failure",
            ),
            (b"<a>" * 100 + b"</a>" * 100, "constraint-failure"),
        ):
            answer = self.ask("PUT", INDEX, body, LISTS)
            self.assertEqual(self.conflict(answer), cause, body)
        self.assertEqual(self.get(), 404)

    def test_foreign_namespaces_are_welcome(self) -> None:
        body = FRIENDS.replace(b"<!-- mine -->", b'<x xmlns="urn:other" a="1"><y/></x>')
        self.assertEqual(self.put(body=body), 201)
        self.assertEqual(self.get(), body)

    def test_rules(self) -> None:
        uri = "pres-rules/users/sip:1001@pbx.test/index"
        self.assertEqual(self.put(uri, RULESET % b"allow", RULES), 201)
        answer = self.ask("PUT", uri, RULESET % b"perhaps", RULES)
        self.assertEqual(self.conflict(answer), "schema-validation-error")
        where = (
            f"{uri}/~~/cr:ruleset/cr:rule%5b@id=%22a%22%5d/cr:actions/sub-handling"
            "?xmlns(cr=urn:ietf:params:xml:ns:common-policy)"
        )
        self.assertEqual(self.put(where, b"<sub-handling>block</sub-handling>", ELEMENT), 200)
        self.assertEqual(
            self.get(uri), b"<?xml version='1.0' encoding='UTF-8'?>\n" + RULESET % b"block"
        )

    def test_service_of_somebody_else(self) -> None:
        """A service URI is one list (RFC 4826 section 4.4.4)."""
        body = (
            b'<rls-services xmlns="urn:ietf:params:xml:ns:rls-services"><service uri="%s">'
            b"<list/></service></rls-services>"
        )
        uri = "rls-services/users/sip:{}@pbx.test/index"
        mine, theirs = uri.format("1001"), uri.format("1002")
        self.assertEqual(self.put(mine, body % b"sip:team@pbx.test", SERVICES), 201)
        self.assertEqual(self.put(mine, body % b"sip:team@pbx.test", SERVICES), 200)
        other = {"user": "1002@pbx.test"}
        taken = self.ask("PUT", theirs, body % b"sip:team@pbx.test", SERVICES, **other)
        self.assertEqual(self.conflict(taken), "uniqueness-failure")
        bad = self.ask("PUT", theirs, body % b"mailto:x", SERVICES, **other)
        self.assertEqual(self.conflict(bad), "constraint-failure")
        self.ask("DELETE", mine)
        self.assertEqual(self.put(theirs, body % b"sip:team@pbx.test", SERVICES, **other), 201)

    def test_database_away(self) -> None:
        """503, and the document is what it was."""
        self.put()

        async def fails(*args: object) -> None:
            raise DatabaseError(Kind.UNAVAILABLE, "gone")

        self.patch(self.database, "write", fails)
        answer = self.ask("PUT", INDEX, FRIENDS.replace(b"1003", b"1009"), LISTS)
        self.assertEqual((answer.status, dict(answer.headers)["Retry-After"]), (503, "10"))
        self.assertEqual(self.ask("DELETE", INDEX).status, 503)
        self.assertEqual(self.get(), FRIENDS)
