When several datagrams come at once, responses to all but INVITE leave together after the last of them was handled: at 3000 REGISTER/s on a machine with others that saves up to a fifth of the time.
