The calls of a browser that crashed or lost its network end after `[dialog] lost_after` seconds; those of one that connects again go on, also over a restart of the PBX.
