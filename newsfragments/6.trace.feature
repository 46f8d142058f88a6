`pbxctl trace` follows the calls of a user, address or Call-ID as a ladder over both legs, says of finished calls why they failed, and saves capture files.
