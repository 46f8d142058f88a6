`pbxctl` shows and changes a running PBX, and edits users also while it is down.
