"""Optional features, one module each, off until named in pbx.toml."""
