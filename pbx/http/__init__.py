"""The HTTP site: health now, pages and interfaces as they come."""
