"""The tables against figures 5 to 8 of RFC 3261 and RFC 6026, RFC 4320."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.transactions import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    REPEATING,
    Do,
    Event,
    Machine,
    State,
    Timer,
    durations,
    event_of,
    next_interval,
)

MACHINES = {
    "INVITE server": INVITE_SERVER,
    "non-INVITE server": NON_INVITE_SERVER,
    "INVITE client": INVITE_CLIENT,
    "non-INVITE client": NON_INVITE_CLIENT,
}

#: States and events of each machine.
STATES = {
    "INVITE server": {State.PROCEEDING, State.ACCEPTED, State.COMPLETED, State.CONFIRMED},
    "non-INVITE server": {State.TRYING, State.PROCEEDING, State.COMPLETED},
    "INVITE client": {State.CALLING, State.PROCEEDING, State.ACCEPTED, State.COMPLETED},
    "non-INVITE client": {State.TRYING, State.PROCEEDING, State.COMPLETED},
}
RESPONSES = {Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE}
TIMERS = {
    "INVITE server": {Timer.G, Timer.H, Timer.I, Timer.L},
    "non-INVITE server": {Timer.J, Timer.LATE},
    "INVITE client": {Timer.A, Timer.B, Timer.D, Timer.M},
    "non-INVITE client": {Timer.E, Timer.F, Timer.K},
}
OTHERS = {
    "INVITE server": {Event.REQUEST, Event.ACK, Event.UNANSWERED},
    "non-INVITE server": {Event.REQUEST, Event.UNANSWERED},
    "INVITE client": set[Event](),
    "non-INVITE client": set[Event](),
}


def fired(timer: Timer) -> Event:
    return Event[f"{timer.name}_FIRED"]


def events(name: str) -> set[Event]:
    return (
        RESPONSES
        | {fired(timer) for timer in TIMERS[name]}
        | OTHERS[name]
        | {Event.TRANSPORT_ERROR}
    )


def running(machine: Machine) -> dict[State, set[Timer]]:
    """Which timers may run in each state, by following every row."""
    found: dict[State, set[Timer]] = {machine.first: set(machine.start)}
    changed = True
    while changed:
        changed = False
        for (state, event), row in machine.table.items():
            if state not in found:
                continue
            timers = (
                set()
                if Do.STOP in row.do
                else {timer for timer in found[state] if fired(timer) is not event}
            )
            for timer in row.start:
                timers = {
                    other for other in timers if (other in REPEATING) != (timer in REPEATING)
                } | {timer}
            if row.state is State.TERMINATED:
                timers = set()
            known = found.setdefault(row.state, set())
            if not timers <= known:
                known |= timers
                changed = True
    return found


class TableTests(SynchronousTestCase):
    """What must hold of every machine."""

    def test_every_pair_is_decided(self) -> None:
        """Each state and event has a row or is named as ignored, never both."""
        for name, machine in MACHINES.items():
            for state in State:
                for event in Event:
                    has_row = (state, event) in machine.table
                    ignored = event in machine.ignored.get(state, ())
                    belongs = state in STATES[name] and event in events(name)
                    self.assertEqual(
                        (has_row or ignored, has_row and ignored),
                        (belongs, False),
                        f"{name}: {state.name}, {event.name}",
                    )
                    row = machine.rows[state][event]
                    self.assertIs(row, machine.table.get((state, event)))

    def test_every_state_is_reached_and_ends(self) -> None:
        """No state is dead, and from each a timer or the user leads to the end."""
        for name, machine in MACHINES.items():
            timers = running(machine)
            self.assertEqual(set(timers), STATES[name] | {State.TERMINATED}, name)
            self.assertEqual(timers[State.TERMINATED], set())
            for state in STATES[name]:
                reached = {state}
                for _ in State:
                    reached |= {
                        row.state for (start, _), row in machine.table.items() if start in reached
                    }
                self.assertIn(State.TERMINATED, reached, f"{name}: {state.name}")

    def test_final_states_end_by_themselves(self) -> None:
        """After the final response a timer always runs that ends the transaction."""
        for name, machine in MACHINES.items():
            for state, timers in running(machine).items():
                if State.ACCEPTED <= state < State.TERMINATED:
                    ending = [
                        timer
                        for timer in timers
                        if (row := machine.rows[state][fired(timer)])
                        and row.state is State.TERMINATED
                    ]
                    self.assertEqual(len(ending), 1, f"{name}: {state.name}")

    def test_no_timer_fires_in_vain(self) -> None:
        """A timer that may run in a state has a row there, but for those replaced on the way."""
        for name, machine in MACHINES.items():
            for state, timers in running(machine).items():
                if state is State.TERMINATED:
                    continue
                for timer in timers - {Timer.LATE}:
                    self.assertIsNotNone(
                        machine.rows[state][fired(timer)], f"{name}: {state.name}, {timer.name}"
                    )

    def test_a_timer_fires_as_its_event(self) -> None:
        """The numbers of timers and of their events agree."""
        for timer in Timer:
            self.assertEqual(int(timer), int(fired(timer)))


class RowTests(SynchronousTestCase):
    """Sentences of the RFCs that are easily got wrong."""

    def test_no_ack_for_2xx(self) -> None:
        """The ACK for a 2xx is the user's (17.1.1.2)."""
        for state in (State.CALLING, State.PROCEEDING, State.ACCEPTED):
            row = INVITE_CLIENT.table[state, Event.SUCCESS]
            self.assertEqual(row.state, State.ACCEPTED)
            self.assertNotIn(Do.ACK, row.do)

    def test_negative_final_is_delivered_once(self) -> None:
        """Repeats are acknowledged only (17.1.1.2)."""
        self.assertIn(Do.DELIVER, INVITE_CLIENT.table[State.PROCEEDING, Event.FAILURE].do)
        self.assertEqual(INVITE_CLIENT.table[State.COMPLETED, Event.FAILURE].do, (Do.ACK,))

    def test_2xx_is_not_repeated_by_the_server(self) -> None:
        """RFC 6026 section 7.1: neither by timer nor for a repeated INVITE."""
        self.assertEqual(INVITE_SERVER.table[State.PROCEEDING, Event.SUCCESS].start, (Timer.L,))
        self.assertIn(Event.REQUEST, INVITE_SERVER.ignored[State.ACCEPTED])

    def test_non_invite_goes_on_after_a_provisional_response(self) -> None:
        """Timers E and F keep running (17.1.2.2)."""
        row = NON_INVITE_CLIENT.table[State.TRYING, Event.PROVISIONAL]
        self.assertNotIn(Do.STOP, row.do)
        self.assertEqual(running(NON_INVITE_CLIENT)[State.PROCEEDING], {Timer.E, Timer.F})

    def test_repeat_in_trying_is_dropped(self) -> None:
        """A non-INVITE server has nothing to repeat yet (17.2.2)."""
        self.assertIn(Event.REQUEST, NON_INVITE_SERVER.ignored[State.TRYING])


class DurationTests(SynchronousTestCase):
    """RFC 3261 table 4."""

    def test_unreliable(self) -> None:
        """With the default T1, T2, T4."""
        seconds = durations(0.5, 4.0, 5.0, reliable=False)
        self.assertEqual(
            {timer.name: seconds[timer] for timer in Timer},
            dict(
                zip("ABDEFGHIJKLM", [0.5, 32, 32, 0.5, 32, 0.5, 32, 5, 32, 5, 32, 32], strict=True)
            )
            | {"LATE": 3.5},
        )

    def test_reliable(self) -> None:
        """A, E and G never fire; D, I, J and K are zero."""
        seconds = durations(0.5, 4.0, 5.0, reliable=True)
        for timer in (Timer.A, Timer.E, Timer.G):
            self.assertEqual(seconds[timer], math.inf)
        for timer in (Timer.D, Timer.I, Timer.J, Timer.K):
            self.assertEqual(seconds[timer], 0.0)
        for timer in (Timer.B, Timer.F, Timer.H, Timer.L, Timer.M):
            self.assertEqual(seconds[timer], 32.0)

    def test_d_is_at_least_32_seconds(self) -> None:
        """17.1.1.2, also when T1 is smaller."""
        self.assertEqual(durations(0.1, 4.0, 5.0, reliable=False)[Timer.D], 32.0)

    def test_intervals(self) -> None:
        """A doubles for ever, E and G up to T2, E is T2 in Proceeding."""
        self.assertEqual(next_interval(Timer.A, 4.0, State.CALLING, 4.0), 8.0)
        self.assertEqual(next_interval(Timer.E, 2.0, State.TRYING, 4.0), 4.0)
        self.assertEqual(next_interval(Timer.E, 4.0, State.TRYING, 4.0), 4.0)
        self.assertEqual(next_interval(Timer.E, 0.5, State.PROCEEDING, 4.0), 4.0)
        self.assertEqual(next_interval(Timer.G, 4.0, State.COMPLETED, 4.0), 4.0)

    def test_classes(self) -> None:
        """3xx to 6xx are one to the machines."""
        self.assertEqual(
            [event_of(status) for status in (100, 199, 200, 299, 300, 404, 503, 699)],
            [Event.PROVISIONAL] * 2 + [Event.SUCCESS] * 2 + [Event.FAILURE] * 4,
        )
