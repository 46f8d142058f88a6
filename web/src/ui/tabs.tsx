import { signal } from "@preact/signals";
import type { IconName } from "./icons";

export type Tab = "keypad" | "people" | "recents" | "messages" | "settings";
export const TABS: ReadonlyArray<{ tab: Tab; label: string; icon: IconName }> = [
  { tab: "keypad", label: "Keypad", icon: "keypad" },
  { tab: "people", label: "People", icon: "people" },
  { tab: "recents", label: "Recents", icon: "clock" },
  { tab: "messages", label: "Messages", icon: "message" },
  { tab: "settings", label: "Settings", icon: "settings" },
];

/** The view that is shown; beside it, where there is room, always the keypad or the call. */
export const tab = signal<Tab>("people");

export function show(wanted: Tab): void {
  // In a wide window the keypad is there anyway.
  if (wanted === "keypad" && !window.matchMedia("(max-width: 819px)").matches) return;
  tab.value = wanted;
}
