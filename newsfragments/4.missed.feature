A call to somebody who has no phone registered is a missed call: in `missed_calls`, in the `cdr` view and in the history of the web phone.
