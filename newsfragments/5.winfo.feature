Watchers that nobody decided about stay on the list of the presentity (`presence.winfo`) for three days (`waiting_subs_daysno`), also over a restart.
