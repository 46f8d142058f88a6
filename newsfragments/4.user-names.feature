Users have display names: `pbxctl user add --name`, `pbxctl user name`, or rows of `usr_preferences`.
