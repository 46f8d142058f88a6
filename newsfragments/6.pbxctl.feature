`pbxctl` has live views (`calls --watch`), shows gateways, dispatcher and dial plan and where a number would go, and completes words in bash and zsh.
