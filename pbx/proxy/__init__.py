"""RFC 3261 section 16: requests in, policy asked, verdict done."""
