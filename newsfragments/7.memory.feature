A PBX without browsers, stored documents, web site or SQLite no longer loads what only those need: 13 MB less; plugins are loaded when they are enabled.
