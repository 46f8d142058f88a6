"""The four state machines of RFC 3261 section 17 as tables, amended by RFC 6026 and RFC 4320.

A row says which state comes next, what to do on the way and which timers start. What it means to
do it, and the clock, belong to `pbx.transaction`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """States of all four machines, spelled as in the figures."""

    CALLING = 0
    TRYING = 1
    PROCEEDING = 2
    ACCEPTED = 3
    COMPLETED = 4
    CONFIRMED = 5
    TERMINATED = 6


class Timer(IntEnum):
    """RFC 3261 table 4 without C, which is the proxy's; L and M are RFC 6026's.

    ``LATE`` is when a non-INVITE request has to be answered with 100 (RFC 4320 section 4.1).
    """

    A = 0
    B = 1
    D = 2
    E = 3
    F = 4
    G = 5
    H = 6
    I = 7  # noqa: E741
    J = 8
    K = 9
    L = 10
    M = 11
    LATE = 12


class Event(IntEnum):
    """What can happen to a transaction; a timer fires as ``<letter>_FIRED``.

    PROVISIONAL, SUCCESS and FAILURE are responses by class (FAILURE: 300 to 699): received by a
    client, given by the user of a server. REQUEST is the request again, ACK one that matches.
    UNANSWERED: the user has not answered a new INVITE at once.
    """

    A_FIRED = 0
    B_FIRED = 1
    D_FIRED = 2
    E_FIRED = 3
    F_FIRED = 4
    G_FIRED = 5
    H_FIRED = 6
    I_FIRED = 7
    J_FIRED = 8
    K_FIRED = 9
    L_FIRED = 10
    M_FIRED = 11
    LATE_FIRED = 12
    REQUEST = 13
    PROVISIONAL = 14
    SUCCESS = 15
    FAILURE = 16
    ACK = 17
    UNANSWERED = 18
    TRANSPORT_ERROR = 19


class Do(IntEnum):
    """What a machine asks for.

    SEND the response that the user gives; RESEND what was sent last; TRYING: send a 100; ACK: send
    the ACK for a negative final response; DELIVER the message to the user; TIMEOUT and FAIL: tell
    the user that there will be no response; STOP all timers.
    """

    SEND = 0
    RESEND = 1
    TRYING = 2
    ACK = 3
    DELIVER = 4
    TIMEOUT = 5
    FAIL = 6
    STOP = 7


class Row(NamedTuple):
    """Next state, what to do in this order, and the timers that start."""

    state: State
    do: tuple[Do, ...] = ()
    start: tuple[Timer, ...] = ()


#: Timers that send again; the others end a state. Of each kind at most one runs at a time, so a
#: timer that starts replaces the one of its kind.
REPEATING = frozenset((Timer.A, Timer.E, Timer.G))

Table = Mapping[tuple[State, Event], Row]


class Machine:
    """One table made ready: ``rows[state][event]`` is a row, or None for an ignored event.

    ``ignored`` are the events of each state that change nothing, named so that a missing row is a
    mistake and not a decision.
    """

    __slots__ = ("first", "ignored", "rows", "start", "table")

    def __init__(
        self,
        first: State,
        start: tuple[Timer, ...],
        table: Table,
        ignored: Mapping[State, Iterable[Event]],
    ) -> None:
        self.first = first
        self.start = start
        self.table = table
        self.ignored = {state: frozenset(events) for state, events in ignored.items()}
        self.rows: Sequence[Sequence[Row | None]] = tuple(
            tuple(table.get((state, event)) for event in Event) for state in State
        )


#: Figure 7, as amended by RFC 6026 section 7.1 (Accepted). A transport error ends it: there is
#: nobody to tell (RFC 6026 section 7.1 lets only the user know, who cannot do better).
INVITE_SERVER = Machine(
    State.PROCEEDING,
    (),
    {
        (State.PROCEEDING, Event.REQUEST): Row(State.PROCEEDING, (Do.RESEND,)),
        (State.PROCEEDING, Event.UNANSWERED): Row(State.PROCEEDING, (Do.TRYING,)),
        (State.PROCEEDING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.SEND,)),
        (State.PROCEEDING, Event.SUCCESS): Row(State.ACCEPTED, (Do.SEND,), (Timer.L,)),
        (State.PROCEEDING, Event.FAILURE): Row(State.COMPLETED, (Do.SEND,), (Timer.G, Timer.H)),
        (State.PROCEEDING, Event.TRANSPORT_ERROR): Row(State.TERMINATED),
        (State.ACCEPTED, Event.SUCCESS): Row(State.ACCEPTED, (Do.SEND,)),
        (State.ACCEPTED, Event.ACK): Row(State.ACCEPTED, (Do.DELIVER,)),
        (State.ACCEPTED, Event.L_FIRED): Row(State.TERMINATED),
        (State.COMPLETED, Event.REQUEST): Row(State.COMPLETED, (Do.RESEND,)),
        (State.COMPLETED, Event.G_FIRED): Row(State.COMPLETED, (Do.RESEND,), (Timer.G,)),
        (State.COMPLETED, Event.ACK): Row(State.CONFIRMED, (Do.STOP, Do.DELIVER), (Timer.I,)),
        (State.COMPLETED, Event.H_FIRED): Row(State.TERMINATED),
        (State.COMPLETED, Event.TRANSPORT_ERROR): Row(State.TERMINATED),
        (State.CONFIRMED, Event.I_FIRED): Row(State.TERMINATED),
    },
    {
        # An ACK before any final response acknowledges nothing.
        State.PROCEEDING: (
            *(Event.ACK, Event.G_FIRED, Event.H_FIRED, Event.I_FIRED, Event.L_FIRED),
        ),
        # Repeated INVITEs are absorbed: the 2xx is repeated by the one who accepted the call. A
        # lost way back may be back for the next 2xx.
        State.ACCEPTED: (
            *(Event.REQUEST, Event.UNANSWERED, Event.PROVISIONAL, Event.FAILURE),
            *(Event.TRANSPORT_ERROR, Event.G_FIRED, Event.H_FIRED, Event.I_FIRED),
        ),
        # There is one final response.
        State.COMPLETED: (
            *(Event.UNANSWERED, Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE),
            *(Event.I_FIRED, Event.L_FIRED),
        ),
        State.CONFIRMED: (
            *(Event.REQUEST, Event.ACK, Event.UNANSWERED, Event.PROVISIONAL, Event.SUCCESS),
            *(Event.FAILURE, Event.TRANSPORT_ERROR),
            *(Event.G_FIRED, Event.H_FIRED, Event.L_FIRED),
        ),
    },
)

#: Figure 8, with the late 100 of RFC 4320 section 4.1.
NON_INVITE_SERVER = Machine(
    State.TRYING,
    (),
    {
        (State.TRYING, Event.UNANSWERED): Row(State.TRYING, (), (Timer.LATE,)),
        (State.TRYING, Event.LATE_FIRED): Row(State.PROCEEDING, (Do.TRYING,)),
        (State.TRYING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.STOP, Do.SEND)),
        (State.TRYING, Event.SUCCESS): Row(State.COMPLETED, (Do.SEND,), (Timer.J,)),
        (State.TRYING, Event.FAILURE): Row(State.COMPLETED, (Do.SEND,), (Timer.J,)),
        (State.PROCEEDING, Event.REQUEST): Row(State.PROCEEDING, (Do.RESEND,)),
        (State.PROCEEDING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.SEND,)),
        (State.PROCEEDING, Event.SUCCESS): Row(State.COMPLETED, (Do.SEND,), (Timer.J,)),
        (State.PROCEEDING, Event.FAILURE): Row(State.COMPLETED, (Do.SEND,), (Timer.J,)),
        (State.PROCEEDING, Event.TRANSPORT_ERROR): Row(State.TERMINATED),
        (State.COMPLETED, Event.REQUEST): Row(State.COMPLETED, (Do.RESEND,)),
        (State.COMPLETED, Event.TRANSPORT_ERROR): Row(State.TERMINATED),
        (State.COMPLETED, Event.J_FIRED): Row(State.TERMINATED),
    },
    {
        State.TRYING: (Event.REQUEST, Event.TRANSPORT_ERROR, Event.J_FIRED),
        State.PROCEEDING: (Event.UNANSWERED, Event.LATE_FIRED, Event.J_FIRED),
        State.COMPLETED: (
            *(Event.UNANSWERED, Event.LATE_FIRED),
            *(Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE),
        ),
    },
)

#: Figure 5, as amended by RFC 6026 section 7.2 (Accepted). Timer B starts again when the request
#: is cancelled, so that Proceeding knows it too (9.1).
INVITE_CLIENT = Machine(
    State.CALLING,
    (Timer.A, Timer.B),
    {
        (State.CALLING, Event.A_FIRED): Row(State.CALLING, (Do.RESEND,), (Timer.A,)),
        (State.CALLING, Event.B_FIRED): Row(State.TERMINATED, (Do.TIMEOUT,)),
        (State.CALLING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.STOP, Do.DELIVER)),
        (State.CALLING, Event.SUCCESS): Row(State.ACCEPTED, (Do.STOP, Do.DELIVER), (Timer.M,)),
        (State.CALLING, Event.FAILURE): Row(
            State.COMPLETED, (Do.STOP, Do.ACK, Do.DELIVER), (Timer.D,)
        ),
        (State.CALLING, Event.TRANSPORT_ERROR): Row(State.TERMINATED, (Do.FAIL,)),
        (State.PROCEEDING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.DELIVER,)),
        (State.PROCEEDING, Event.B_FIRED): Row(State.TERMINATED, (Do.TIMEOUT,)),
        (State.PROCEEDING, Event.SUCCESS): Row(State.ACCEPTED, (Do.DELIVER,), (Timer.M,)),
        (State.PROCEEDING, Event.FAILURE): Row(State.COMPLETED, (Do.ACK, Do.DELIVER), (Timer.D,)),
        (State.PROCEEDING, Event.TRANSPORT_ERROR): Row(State.TERMINATED, (Do.FAIL,)),
        (State.ACCEPTED, Event.SUCCESS): Row(State.ACCEPTED, (Do.DELIVER,)),
        (State.ACCEPTED, Event.M_FIRED): Row(State.TERMINATED),
        (State.COMPLETED, Event.FAILURE): Row(State.COMPLETED, (Do.ACK,)),
        (State.COMPLETED, Event.D_FIRED): Row(State.TERMINATED),
        (State.COMPLETED, Event.TRANSPORT_ERROR): Row(State.TERMINATED),
    },
    {
        State.CALLING: (Event.D_FIRED, Event.M_FIRED),
        State.PROCEEDING: (Event.A_FIRED, Event.D_FIRED, Event.M_FIRED),
        State.ACCEPTED: (
            *(Event.PROVISIONAL, Event.FAILURE, Event.TRANSPORT_ERROR),
            *(Event.A_FIRED, Event.B_FIRED, Event.D_FIRED),
        ),
        State.COMPLETED: (
            *(Event.PROVISIONAL, Event.SUCCESS, Event.A_FIRED, Event.B_FIRED, Event.M_FIRED),
        ),
    },
)

#: Figure 6.
NON_INVITE_CLIENT = Machine(
    State.TRYING,
    (Timer.E, Timer.F),
    {
        (State.TRYING, Event.E_FIRED): Row(State.TRYING, (Do.RESEND,), (Timer.E,)),
        (State.TRYING, Event.F_FIRED): Row(State.TERMINATED, (Do.TIMEOUT,)),
        (State.TRYING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.DELIVER,)),
        (State.TRYING, Event.SUCCESS): Row(State.COMPLETED, (Do.STOP, Do.DELIVER), (Timer.K,)),
        (State.TRYING, Event.FAILURE): Row(State.COMPLETED, (Do.STOP, Do.DELIVER), (Timer.K,)),
        (State.TRYING, Event.TRANSPORT_ERROR): Row(State.TERMINATED, (Do.FAIL,)),
        (State.PROCEEDING, Event.E_FIRED): Row(State.PROCEEDING, (Do.RESEND,), (Timer.E,)),
        (State.PROCEEDING, Event.F_FIRED): Row(State.TERMINATED, (Do.TIMEOUT,)),
        (State.PROCEEDING, Event.PROVISIONAL): Row(State.PROCEEDING, (Do.DELIVER,)),
        (State.PROCEEDING, Event.SUCCESS): Row(State.COMPLETED, (Do.STOP, Do.DELIVER), (Timer.K,)),
        (State.PROCEEDING, Event.FAILURE): Row(State.COMPLETED, (Do.STOP, Do.DELIVER), (Timer.K,)),
        (State.PROCEEDING, Event.TRANSPORT_ERROR): Row(State.TERMINATED, (Do.FAIL,)),
        (State.COMPLETED, Event.K_FIRED): Row(State.TERMINATED),
    },
    {
        State.TRYING: (Event.K_FIRED,),
        State.PROCEEDING: (Event.K_FIRED,),
        State.COMPLETED: (
            *(Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE, Event.TRANSPORT_ERROR),
            *(Event.E_FIRED, Event.F_FIRED),
        ),
    },
)


def durations(t1: float, t2: float, t4: float, reliable: bool) -> tuple[float, ...]:
    """Seconds of each timer when it first starts, by `Timer` (RFC 3261 table 4).

    Over a reliable transport nothing is sent again (infinite) and nothing has to be absorbed
    (zero).
    """
    again = math.inf if reliable else t1
    linger = 0.0 if reliable else 64 * t1
    absorb = 0.0 if reliable else t4
    late = 0.0
    interval = t1
    while interval < t2:
        late += interval
        interval *= 2
    return (
        *(again, 64 * t1, 0.0 if reliable else max(64 * t1, 32.0)),
        *(again, 64 * t1),
        *(again, 64 * t1, absorb),
        *(linger, absorb, 64 * t1, 64 * t1, late),
    )


def next_interval(timer: Timer, last: float, state: State, t2: float) -> float:
    """Seconds until a repeating timer fires again: A doubles for ever, E and G up to T2, and E is
    T2 once there was a provisional response (17.1.1.2, 17.1.2.2, 17.2.1).
    """
    if timer is Timer.A:
        return last * 2
    if timer is Timer.E and state is State.PROCEEDING:
        return t2
    return min(last * 2, t2)


_CLASSES: tuple[Event, ...] = (
    Event.PROVISIONAL,
    Event.SUCCESS,
    Event.FAILURE,
    Event.FAILURE,
    Event.FAILURE,
    Event.FAILURE,
)


def event_of(status: int) -> Event:
    """The event that a response of this status (100 to 699) is."""
    return _CLASSES[status // 100 - 1]
