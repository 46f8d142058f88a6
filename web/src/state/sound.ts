// Is sound really arriving?

import type { Call } from "./calls";

const PERIOD = 2000;
/** Periods without a packet until the user is told. */
const PATIENCE = 3;
/** Lost packets of a period that can be heard. */
const POOR = 0.05;

interface Inbound {
  type: string;
  packetsReceived: number;
  packetsLost: number;
}

/** Warn in a call that is silent or broken up; returns what ends that. */
export function watchSound(call: Call): () => void {
  let received = 0;
  let lost = 0;
  let silent = 0;
  const look = async (): Promise<void> => {
    const stats = await call.session.connection?.getStats();
    if (stats === undefined) return;
    let now: Inbound | undefined;
    stats.forEach((one: Inbound) => {
      if (one.type === "inbound-rtp") now = one;
    });
    const got = (now?.packetsReceived ?? 0) - received;
    const missing = Math.max(0, (now?.packetsLost ?? 0) - lost);
    received += got;
    lost += missing;
    const paused = call.held.value || call.heldThere.value;
    silent = paused || got > 0 ? 0 : silent + 1;
    if (silent >= PATIENCE) call.warning.value = "No sound is arriving from the other side.";
    else if (got > 0 && missing / (got + missing) > POOR) call.warning.value = "Poor connection";
    else call.warning.value = "";
  };
  const timer = window.setInterval(() => void look(), PERIOD);
  return () => window.clearInterval(timer);
}
