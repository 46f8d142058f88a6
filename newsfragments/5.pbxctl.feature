`pbxctl subscriptions` shows who watches whom, `pbxctl presentities` what is published.
