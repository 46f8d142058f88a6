"""A thousand phones on TCP, all registered and all connected at once."""

from __future__ import annotations

import os

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Phone

PHONES = 1000
#: Resident memory that one registered phone on a connection of its own may take.
BYTES_PER_PHONE = 60_000


def resident(pbx: PBX) -> int:
    """Bytes of memory of the PBX's process."""
    assert pbx.process is not None
    with open(f"/proc/{pbx.process.popen.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pbx: PBX) -> int:
    """Its open files."""
    assert pbx.process is not None
    return len(os.listdir(f"/proc/{pbx.process.popen.pid}/fd"))


class ThousandConnectionsTests(PBXTestCase):
    def test_held_open(self) -> None:
        """Each is reached over its own connection; afterwards nothing is left of them."""
        pbx = self.pbx({"transport": {"max_connections_per_source": 2000}}, users=("caller",))
        pbx.sql(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO subscriber (username, domain, password)"
            " SELECT 'u' || i, 'pbx.test', 'secret' FROM n",
            PHONES - 1,
        )
        last = f"u{PHONES - 1}@pbx.test"
        until(lambda: pbx.mi("auth_knows", last), "the users are known", 6)
        memory, files = resident(pbx), descriptors(pbx)
        phones = [self.registered(pbx, f"u{number}", "tcp") for number in range(PHONES)]
        self.assertEqual(pbx.statistic("usrloc:registered_users"), PHONES)
        # Give or take management connections and files of SQLite.
        self.assertIn(descriptors(pbx) - files, range(PHONES - 4, PHONES + 5))
        per_phone = (resident(pbx) - memory) / PHONES
        self.assertLess(per_phone, BYTES_PER_PHONE)
        caller = self.registered(pbx, "caller")
        for number in (0, PHONES // 2, PHONES - 1):
            self.call(caller, phones[number])
        until(lambda: pbx.sql("SELECT COUNT(*) FROM location")[0][0] == PHONES + 1, "rows", 5)
        for phone in phones:
            phone.close()
        until(lambda: descriptors(pbx) <= files + 4, "the files are closed", 10)

    def call(self, caller: Phone, callee: Phone) -> None:
        """Answered and ended."""
        invite = caller.invite(callee.user)
        callee.answer(callee.request("INVITE"))
        dialog = caller.called(invite, caller.response(200))
        callee.request("ACK")
        caller.send(caller.within(dialog, "BYE"))
        callee.respond(callee.request("BYE"), 200)
        caller.response(200)
