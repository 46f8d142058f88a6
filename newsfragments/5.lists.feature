A whole contact list or row of busy lamps is watched with one subscription (RFC 4662): phones that say `Supported: eventlist` subscribe to the address of the list.
