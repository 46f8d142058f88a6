The web phone: browsers call, hold, transfer, write and watch colleagues from a page of the PBX, without any software to install.
