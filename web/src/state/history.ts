// Past calls, as the PBX has written them down.

import { computed, effect, signal } from "@preact/signals";
import { account } from "./account";
import { api, APIError, type PastCall } from "./api";
import { endedCalls } from "./calls";
import { kept } from "./settings";

const PAGE = 50;
/** Milliseconds until the row of a call that has ended can be read. */
const WRITTEN = [800, 4000] as const;

export const past = signal<PastCall[]>([]);
export const pastFailed = signal("");
export const more = signal(false);
export const loading = signal(false);
const seen = kept("pbx.calls-seen", 0);

const when = (call: PastCall): number => Date.parse(call.start);
export const missed = (call: PastCall): boolean => call.direction === "in" && !call.answered;
export const missedCalls = computed(
  () => past.value.filter((one) => missed(one) && when(one) > seen.value).length,
);

export function markSeen(): void {
  seen.value = Math.max(seen.value, ...past.value.map(when));
}

async function load(before?: PastCall): Promise<void> {
  if (account.value === null) return;
  loading.value = true;
  try {
    const found = await api.history(PAGE, before?.id);
    past.value = before === undefined ? found : [...past.value, ...found];
    more.value = found.length === PAGE;
    pastFailed.value = "";
  } catch (error) {
    pastFailed.value = error instanceof APIError ? error.message : String(error);
  } finally {
    loading.value = false;
  }
}

export const loadHistory = (): Promise<void> => load();
export const loadMore = (): Promise<void> => load(past.value.at(-1));

effect(() => {
  if (endedCalls.value === 0) return;
  for (const delay of WRITTEN) window.setTimeout(() => void loadHistory(), delay);
});

export function forgetHistory(): void {
  past.value = [];
}
