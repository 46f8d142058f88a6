"""JSON-RPC 2.0 over whatever carries text: a Unix socket here."""
