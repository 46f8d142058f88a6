"""The ``[presence]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PresenceSettings:
    """How subscriptions and publications are kept."""

    enabled: bool = True
    """Answer SUBSCRIBE and PUBLISH ourselves; otherwise they go to the phones."""
    max_expires_subscribe: int = 3600
    """Longest subscription granted; also what one without Expires gets."""
    max_expires_publish: int = 3600
    """Longest publication granted; also what one without Expires gets."""
    min_expires: int = 5
    """Shortest subscription or publication; less is refused with 423."""
    notify_interval: float = 1.0
    """Seconds between two NOTIFYs about changes within one subscription."""
    end_sub_on_timeout: bool = True
    """End a subscription whose NOTIFY nobody answered."""
    contact_user: str = "presence"
    """User of the Contact in our answers and NOTIFYs."""
    notify_offline_body: bool = False
    """Send a document that says closed also when nothing was ever published."""
    show_registered: bool = False
    """Show a user of whom nothing is published as open while a phone is registered, else as closed:
    for phones that do not publish."""
    force_active: bool = True
    """Every watcher sees everything; otherwise the rules of the presentity (pres-rules) decide."""
    default_handling: str = "confirm"
    """What happens to a watcher of whom no rule says anything: confirm (pending until the
    presentity decides), block, polite-block or allow."""
    publish_by_others: bool = False
    """Let local users publish the state of somebody else."""
    count_stored_messages: bool = True
    """Count the text messages that wait for a user as waiting messages (message-summary)."""
    force_single_dialog: bool = False
    """Tell busy lamps about the most important call of a user only."""
    max_subscriptions: int = 100_000
    """Most subscriptions, each member of a list counted; more are refused with 503."""
    max_subscriptions_per_watcher: int = 1000
    """Most subscriptions of one user."""
    waiting_subs_daysno: int = 3
    """Days that a watcher whom nobody decided about stays on the presentity's list after its
    subscription has ended; 0 for none."""
    max_list_members: int = 300
    """Most members of a contact list that is watched with one subscription."""
    max_publications: int = 100_000
    """Most publications; more are refused with 503."""
    max_publications_per_user: int = 20
    """Most publications of one presentity and event package: its devices."""
    max_body: int = 65536
    """Largest published document in bytes."""
    watcher_rate: float = 10.0
    """SUBSCRIBE and PUBLISH requests per second that one user may send in the long run; more are
    refused with 503 and Retry-After."""
    watcher_burst: int = 500
    """How many of them at once."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_expires <= min(self.max_expires_subscribe, self.max_expires_publish):
            raise ValueError("min_expires: expected 0 up to the longest expiry")
        if self.default_handling not in ("confirm", "block", "polite-block", "allow"):
            raise ValueError("default_handling: expected confirm, block, polite-block or allow")
        if self.notify_interval < 0:
            raise ValueError("notify_interval: expected 0 or more")
        if self.watcher_rate <= 0 or self.watcher_burst < 1:
            raise ValueError("watcher_rate, watcher_burst: expected more than 0")
