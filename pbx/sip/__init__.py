"""What SIP is: messages, transactions, dialogs, routes and forking, without any I/O or clock.

Text inside a message is ``str`` decoded as UTF-8 with ``surrogateescape``: names with umlauts read
as what they are, and bytes that are no UTF-8 still come out as they went in.
"""
