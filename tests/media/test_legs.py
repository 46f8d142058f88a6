"""How well a call was heard."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.legs import MediaStatistics, Side, StreamStatistics


class StatisticsTests(SynchronousTestCase):
    def test_a_good_stream(self) -> None:
        """G.711 without loss is worth 4.4 (ITU-T G.107)."""
        self.assertAlmostEqual(StreamStatistics(packets=1000).mos, 4.4, places=1)

    def test_loss_lowers_the_score(self) -> None:
        """With concealment, 5 percent of loss cost about half a point and 20 percent two."""
        slight = StreamStatistics(packets=950, lost=50)
        bad = StreamStatistics(packets=800, lost=200)
        self.assertEqual(slight.loss, 0.05)
        self.assertTrue(3.5 < slight.mos < 4.2, slight.mos)
        self.assertTrue(1.5 < bad.mos < 2.9, bad.mos)

    def test_jitter_lowers_the_score(self) -> None:
        """A long jitter buffer is a long delay."""
        self.assertTrue(
            StreamStatistics(packets=1000, jitter=0.1).mos
            < StreamStatistics(packets=1000).mos - 0.5
        )

    def test_silence(self) -> None:
        """Nothing heard has no score, and a hopeless stream the lowest."""
        self.assertEqual(StreamStatistics().mos, 0.0)
        self.assertEqual(StreamStatistics(packets=1, lost=99, jitter=2.0).mos, 1.0)

    def test_a_call_is_as_good_as_its_worse_side(self) -> None:
        """One who hears nothing has a bad call, however well the other hears."""
        good = StreamStatistics(packets=900)
        bad = StreamStatistics(packets=80, lost=20, jitter=0.02)
        both = MediaStatistics(good, bad)
        self.assertEqual((both.packets, both.loss, both.jitter), (980, 0.02, 0.02))
        self.assertEqual(both.mos, bad.mos)
        self.assertEqual(MediaStatistics(good, StreamStatistics()).mos, good.mos)

    def test_sides(self) -> None:
        """There are two."""
        self.assertIs(Side.CALLER.other, Side.CALLEE)
        self.assertIs(Side.CALLEE.other, Side.CALLER)


class MediaFailedTests(SynchronousTestCase):
    def test_answer(self) -> None:
        """488 with a Warning that says why (RFC 3261 section 20.43), whatever the text holds."""
        error = MediaFailed('no "codec"', warning=305)
        self.assertEqual(error.status, 488)
        self.assertEqual(error.headers, (("Warning", "305 pbx \"no 'codec'\""),))
        self.assertEqual(str(error), 'no "codec"')
