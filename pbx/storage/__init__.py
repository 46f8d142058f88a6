"""Databases and caches behind two interfaces."""
