// What this browser remembers.

import { effect, signal, type Signal } from "@preact/signals";
import type { Availability } from "../sip/documents";

/** A value that outlives the page. */
export function kept<T>(key: string, first: T): Signal<T> {
  let found = first;
  try {
    const text = localStorage.getItem(key);
    if (text !== null) found = JSON.parse(text) as T;
  } catch {
    // Not ours, or storage is switched off: begin with the default.
  }
  const value = signal(found);
  let known = JSON.stringify(found);
  effect(() => {
    const text = JSON.stringify(value.value);
    if (text === known) return;
    known = text;
    try {
      localStorage.setItem(key, text);
    } catch {
      // Full or switched off: remembered until the page is closed.
    }
  });
  addEventListener("storage", (event) => {
    if (event.key !== key || event.newValue === null || event.newValue === known) return;
    known = event.newValue;
    value.value = JSON.parse(event.newValue) as T;
  });
  return value;
}

export const settings = {
  microphone: kept("pbx.microphone", ""),
  speaker: kept("pbx.speaker", ""),
  ringer: kept("pbx.ringer", ""),
  volume: kept("pbx.ring-volume", 0.6),
  callWaiting: kept("pbx.call-waiting", true),
  status: kept<Availability>("pbx.status", "available"),
  asked: kept("pbx.notifications-asked", false),
};
