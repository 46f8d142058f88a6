Messages to users who are away are answered 202, kept in the `silo` table and delivered in order when they register; `[msilo]` has the limits and the switch.
