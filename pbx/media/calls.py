"""Which calls are bridged, and their session descriptions on the way (spec 35).

The proxy asks with every body. For a call that needs no engine the answer is None at once; only
bridged calls have an entry here, from their first offer until they have failed or ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import MediaFailed
from pbx.events import (
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRestored,
    KeyPressed,
    MediaBridged,
    MediaEnded,
)
from pbx.interfaces import (
    ICommands,
    IDialogs,
    IEvents,
    IMedia,
    IMediaEngine,
    IMediaUser,
    IMetrics,
    IStatistics,
    ITimers,
)
from pbx.legs import MediaLeg, MediaSession, Side
from pbx.media.bridge import Bridge, BridgedCall, from_words
from pbx.media.commands import media_list
from pbx.media.decision import Decision, RelayPhones, has_description, leg_of
from pbx.metrics import LATENCY, Histogram, Kind, Metric
from pbx.sip.address import Address
from pbx.sip.message import Request, Response
from pbx.verdicts import Arrival, Target

#: Seconds after a restart until calls are ended whose media did not survive: time for the
#: connections of browsers to come back.
_MOURNING = 5.0


@implementer(IMedia, IMediaUser, ICommands, IStatistics, IMetrics)
class CallMedia:
    """See `IMedia`; hears of dead sessions as the engine's `IMediaUser`."""

    log = Logger()

    def __init__(
        self,
        engine: IMediaEngine | None,
        relay_phones: RelayPhones,
        dialogs: IDialogs,
        events: IEvents,
        timers: ITimers,
        now: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._now = now
        self._took = {kind: Histogram(LATENCY) for kind in ("offer", "answer")}
        self._decision = Decision(engine, relay_phones)
        self._dialogs = dialogs
        self._events = events
        self._timers = timers
        self._calls: dict[str, BridgedCall] = {}
        self.bridged = 0
        if engine is not None:
            engine.use(self)
        events.subscribe(CallAnswered, self._call_answered)
        events.subscribe(CallFailed, self._call_failed)
        events.subscribe(CallEnded, self._call_ended)
        events.subscribe(CallRestored, self._call_restored)

    # IMedia

    def request(
        self,
        did: str,
        branch: object,
        request: Request,
        arrival: Arrival,
        target: Target,
        peer: Address,
    ) -> Awaitable[bytes] | None:
        """An offer, or the answer in a PRACK."""
        if arrival.own_route is not None:
            call = self._calls.get(did)
            if call is None or not has_description(request):
                return None
            return self._within(call, request, arrival)
        if not arrival.call:
            return None
        kinds = self._decision.of_request(request, arrival.peer, target, peer)
        if kinds is None:
            return None
        source = leg_of(Side.CALLER, kinds[0], request, arrival.peer)
        aim = MediaLeg(side=Side.CALLEE, kind=kinds[1], peer=peer)
        bridge = self._bridge(did, branch, source, aim)
        return self._offered(bridge, source, request.body)

    def response(
        self,
        did: str,
        branch: object,
        request: Request,
        response: Response,
        arrival: Arrival,
        peer: Address,
    ) -> Awaitable[bytes] | None:
        """An answer, or the offer that a request without one asks for."""
        if not has_description(response):
            return None
        call = self._calls.get(did)
        if arrival.own_route is not None:
            return None if call is None else self._answered_within(call, request, response, peer)
        bridge = None if call is None else call.branches.get(branch)
        if bridge is None:
            if request.body or not arrival.call:
                return None
            return self._late_offer(did, branch, request, response, arrival, peer)
        assert call is not None
        if call.winner is not None and call.winner is not bridge:
            # A second callee who answered as well: the caller hangs up on it (13.2.2.4).
            return None
        if response.status >= 200 and call.winner is None:
            call.winner = bridge
        leg = leg_of(Side.CALLEE, bridge.kind(Side.CALLEE), response, peer)
        bridge.knows(leg)
        call.tags[leg.tag] = bridge
        if bridge.offerer is Side.CALLEE:
            return self._offered(bridge, leg, response.body)
        return self._answered(bridge, leg, response.body)

    def ack(self, did: str, ack: Request) -> Awaitable[bytes] | None:
        """The answer to the offer in a 2xx."""
        call = self._calls.get(did)
        if call is None or not has_description(ack):
            return None
        bridge, side = call.find(ack)
        if bridge is None:
            return None
        if bridge.waits_for is not side and bridge.made(side, False, ack.body) is None:
            return None
        return self._answered(bridge, bridge.legs[side], ack.body)

    def failed(self, did: str, branch: object) -> None:
        """Free what this branch has, unless the caller still needs its side of it."""
        call = self._calls.get(did)
        bridge = None if call is None else call.branches.pop(branch, None)
        if call is None or bridge is None:
            return
        if call.winner is bridge:
            # It was answered, and the answer could not be bridged.
            call.winner = None
        dialog = self._dialogs.find(did)
        if call.branches or (dialog is not None and dialog.answered):
            self._free(bridge)
        else:
            # The next branch, say to voicemail, is to find the caller where it is.
            call.left_over.append(bridge)
        if not call.branches and not call.left_over:
            del self._calls[did]

    def _late_offer(
        self,
        did: str,
        branch: object,
        request: Request,
        response: Response,
        arrival: Arrival,
        peer: Address,
    ) -> Awaitable[bytes] | None:
        """The INVITE had no offer: the callee makes it."""
        kinds = self._decision.of_response(request, arrival.peer, response, peer)
        if kinds is None:
            return None
        source = leg_of(Side.CALLEE, kinds[1], response, peer)
        tag = request.from_.tag or ""
        aim = MediaLeg(side=Side.CALLER, kind=kinds[0], peer=arrival.peer, tag=tag)
        bridge = self._bridge(did, branch, source, aim)
        call = self._calls[did]
        call.tags[source.tag] = bridge
        if response.status >= 200 and call.winner is None:
            call.winner = bridge
        return self._offered(bridge, source, response.body)

    # Within a call

    def _within(
        self, call: BridgedCall, request: Request, arrival: Arrival
    ) -> Awaitable[bytes] | None:
        bridge, side = call.find(request)
        if bridge is None or request.method not in ("INVITE", "UPDATE", "PRACK"):
            return None
        leg = leg_of(side, bridge.kind(side), request, arrival.peer)
        bridge.knows(leg)
        if request.method == "PRACK" and bridge.waits_for is side:
            return self._answered(bridge, leg, request.body)
        return self._offered(bridge, leg, request.body)

    def _answered_within(
        self, call: BridgedCall, request: Request, response: Response, peer: Address
    ) -> Awaitable[bytes] | None:
        bridge, asking = call.find(request)
        if bridge is None or request.method not in ("INVITE", "UPDATE", "PRACK"):
            return None
        side = asking.other
        leg = leg_of(side, bridge.kind(side), response, peer)
        bridge.knows(leg)
        if request.body:
            return self._answered(bridge, leg, response.body)
        return self._offered(bridge, leg, response.body)

    # The engine

    def _bridge(self, did: str, branch: object, source: MediaLeg, aim: MediaLeg) -> Bridge:
        if not did:
            raise MediaFailed("Too Many Calls", status=503)
        call = self._calls.get(did)
        if call is None:
            caller = source if source.side is Side.CALLER else aim
            call = self._calls[did] = BridgedCall(did, caller.tag)
        bridge = call.branches.get(branch)
        if bridge is None:
            call.count += 1
            session = MediaSession(did, str(call.count))
            bridge = call.branches[branch] = Bridge(session, source, aim)
            self.bridged += 1
        return bridge

    async def _offered(self, bridge: Bridge, source: MediaLeg, body: bytes) -> bytes:
        made = bridge.made(source.side, True, body)
        if made is None:
            engine = self._engine
            assert engine is not None
            other = bridge.legs[source.side.other]
            made = await self._timed("offer", engine.offer(bridge.session, body, source, other))
            bridge.offered(source.side, body, made)
            self._tidy(bridge)
        bridge.waits_for = source.side.other
        return made

    async def _answered(self, bridge: Bridge, source: MediaLeg, body: bytes) -> bytes:
        made = bridge.made(source.side, False, body)
        if made is None:
            engine = self._engine
            assert engine is not None
            other = bridge.legs[source.side.other]
            made = await self._timed("answer", engine.answer(bridge.session, body, source, other))
            bridge.answered(source.side, body, made)
            self._tidy(bridge)
        return made

    async def _timed(self, kind: str, work: Awaitable[bytes]) -> bytes:
        began = self._now()
        try:
            return await work
        finally:
            self._took[kind].observe(self._now() - began)

    def _tidy(self, bridge: Bridge) -> None:
        """After the engine has spoken the world may have changed."""
        call = self._calls.get(bridge.session.call)
        if bridge.freed:
            self._delete(bridge, None)
        elif call is not None:
            left_over, call.left_over = call.left_over, []
            for one in left_over:
                self._free(one)

    def _free(self, bridge: Bridge) -> None:
        bridge.freed = True
        self._delete(bridge, None)

    def _delete(self, bridge: Bridge, ended: str | None) -> None:
        """Free the ports; ``ended`` is the answered call that is over."""
        engine = self._engine
        if engine is None:
            return

        async def delete() -> None:
            try:
                found = await engine.delete(bridge.session)
            except MediaFailed as error:
                self.log.warn(
                    "cannot free the media of {call}: {why}",
                    call=bridge.session.call,
                    why=error.text,
                )
                return
            if found is not None and ended is not None:
                # Not from within the news that the call is over.
                self._timers.call_later(0.0, self._events.publish, MediaEnded(ended, found))

        Deferred.fromCoroutine(delete())

    # What becomes of calls

    def _call_answered(self, event: CallAnswered) -> None:
        """Also by a 200 without description, after a reliable response that had it."""
        call = self._calls.get(event.dialog.did)
        if call is None:
            return
        if call.winner is None:
            call.winner = call.tags.get(event.dialog.to_tag)
        if call.winner is not None:
            # Not from within the news that it is answered.
            self._timers.call_later(0.0, self._keep, call)

    def _keep(self, call: BridgedCall) -> None:
        """What a restart must know."""
        if self._engine is not None and call.winner and self._calls.get(call.did) is call:
            self._events.publish(MediaBridged(call.did, call.winner.words(self._engine.name)))

    def _call_failed(self, event: CallFailed) -> None:
        self._over(event.dialog.did, False)

    def _call_ended(self, event: CallEnded) -> None:
        self._over(event.dialog.did, True)

    def _over(self, did: str, answered: bool) -> None:
        call = self._calls.pop(did, None)
        if call is None:
            return
        for bridge in call.bridges():
            bridge.freed = True
            self._delete(bridge, did if answered and bridge is call.winner else None)

    def _call_restored(self, event: CallRestored) -> None:
        """The media of a call that was going on when the PBX was restarted."""
        dialog = event.dialog
        words = dialog.profiles.get("media")
        if not words:
            return
        engine = self._engine
        if engine is not None and engine.outlives_us:
            call = from_words(words, engine.name, dialog)
            if call is not None:
                self._calls[dialog.did] = call
                return
        # Its sockets and keys are gone: better no call than a silent one.
        self._timers.call_later(
            _MOURNING, self._dialogs.end, dialog.did, "pbx", "Media Lost In Restart"
        )

    # IMediaUser

    def connected(self, session: MediaSession, side: Side) -> None:
        """Nobody waits for that."""

    def dtmf(self, session: MediaSession, side: Side, digit: str, milliseconds: int) -> None:
        """Tell who wants to know."""
        if self._events.wanted(KeyPressed):
            self._events.publish(KeyPressed(session.call, side, digit, milliseconds))

    def media_timeout(self, session: MediaSession, side: Side | None) -> None:
        """End the call; one that still rings may be silent."""
        call = self._calls.get(session.call)
        dialog = self._dialogs.find(session.call)
        if call is None or call.winner is None or call.winner.session != session:
            return
        if dialog is None or not dialog.answered:
            return
        self.log.info(
            "no media from the {side} any more",
            side="call" if side is None else side.value,
            call_id=dialog.call_id,
        )
        self._dialogs.end(session.call, "pbx", "Media Timeout")

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``media_list``."""
        return [("media_list", ((),), self._media_list)]

    def _media_list(self) -> object:
        """Bridged calls with both sides and how they are heard so far."""
        return media_list(self._engine, self._calls.values())

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters."""
        return {
            "media:bridged_calls": len(self._calls),
            "media:bridged": self.bridged,
            "media:refused": self._decision.refused,
        }

    def metrics(self) -> Iterable[Metric]:
        """How long the engine takes."""
        yield Metric(
            "pbx_media_command_seconds",
            Kind.HISTOGRAM,
            "Time that the media engine takes for a session description.",
            ("command",),
            [((kind,), took) for kind, took in self._took.items()],
        )
