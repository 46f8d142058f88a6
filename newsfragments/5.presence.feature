Phones watch each other: presence, busy lamps lit by our own calls, message waiting and watcher info are served here; `[presence]` has the limits and the switch.
