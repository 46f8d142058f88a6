"""``pbxctl import``: an OpenSIPS configuration becomes ours. It is read, never executed."""

from pbx.ctl.importer.command import ImportFailed, add_options, import_file

__all__ = ["ImportFailed", "add_options", "import_file"]
