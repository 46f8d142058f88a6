"""Loading and swapping the routing policy."""
