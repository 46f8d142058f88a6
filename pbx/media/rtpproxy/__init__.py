"""RTPProxy as media engine: embedded in this process (``rtp.io``), or another program over UDP."""
