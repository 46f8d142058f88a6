In a cluster presence, busy lamps and waiting messages are the same at every node, no message is delivered by two of them, and the subscriptions of a dead node go on at another one.
