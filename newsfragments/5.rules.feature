With `force_active = false` users decide who sees their presence (allow, block, polite-block, confirm, and which parts of it); a change of the rules reaches the watchers at once.
