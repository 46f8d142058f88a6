"""PUBLISH as a request: what is checked before it changes a publication (RFC 3903 section 6)."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from pbx.services.presence.publications import Publication, Publications
from pbx.services.presence.requests import Requests
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import Package
from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.message import Request
from pbx.verdicts import Reply


class Publisher:
    """Initial publication, refresh, modification and removal."""

    def __init__(
        self,
        settings: PresenceSettings,
        requests: Requests,
        publications: Publications,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._publications = publications
        self._clock = clock

    def publish(self, request: Request) -> Reply:
        """The answer. Raises SIPError for every refusal."""
        requests = self._requests
        sender = requests.sender(request, self._clock.seconds())
        package = requests.package(request)[1]
        if not package.publishable:
            raise SIPError(status=489, headers=requests.allow_events)
        presentity = requests.presentity(request)
        if not (
            sender == presentity or self._settings.publish_by_others or requests.is_foreign(request)
        ):
            raise SIPError("Not Your State", 403)
        expires = requests.expires(request, self._settings.max_expires_publish)
        tags = request.get_list("sip-if-match")
        if len(tags) > 1:
            raise MalformedMessage("Several SIP-If-Match")
        known = self._publications.find(package.name, presentity, tags[0]) if tags else None
        if known is not None and not expires:
            self._publications.remove(known)
            return Reply(200, headers=(("Expires", "0"),))
        content_type = self._checked_body(request, package) if request.body else ""
        if known is None:
            if not content_type:
                raise MalformedMessage("Missing Body")
            known = Publication(package.name, presentity, request.body, content_type, sender)
            self._initial(known, expires)
        elif content_type:
            self._publications.modify(known, request.body, content_type, expires)
        else:
            self._publications.refresh(known, expires)
        return Reply(200, headers=(("SIP-ETag", known.etag), ("Expires", str(expires))))

    def _initial(self, publication: Publication, expires: int) -> None:
        self._publications.add(publication, expires)
        if not expires:
            self._publications.remove(publication)

    def _checked_body(self, request: Request, package: Package) -> str:
        """The content type of a good body. Raises SIPError 413, 415, 400."""
        if len(request.body) > self._settings.max_body:
            raise SIPError(status=413)
        if request.get("content-encoding"):
            raise SIPError(status=415, headers=[("Accept-Encoding", "identity")])
        given = (request.get("content-type") or "").partition(";")[0].strip(" \t").lower()
        if given not in package.content_types:
            raise SIPError(status=415, headers=[("Accept", ", ".join(package.content_types))])
        package.check(request.body)
        return given
