The message-waiting lamp also counts text messages that wait for a user (`count_stored_messages`), beside what a voice mail system publishes.
