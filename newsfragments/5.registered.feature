`[presence] show_registered = true` shows users whose phones do not publish as there while a phone is registered.
