Browsers and phones call each other: the PBX bridges WebRTC and plain RTP itself, relays phones behind NATs, ends calls whose media is dead, and the cdr tells packets, loss, jitter and a score.
