A PBX without browsers, stored documents or SQLite no longer loads what only those need: 9 MB less.
