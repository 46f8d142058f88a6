Who picks up a ringing call that a FreeSWITCH node made (Replaces) reaches that node and no other.
