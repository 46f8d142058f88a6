"""pbxctl, the command line of the operator."""
