"""Bytes: listeners, connections and the way to a next hop."""
