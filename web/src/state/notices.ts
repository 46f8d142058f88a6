import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  kind: "error" | "info";
  text: string;
  action?: { label: string; run: () => void } | undefined;
  /** What it is about, so that it goes when that is dealt with. */
  about?: string | undefined;
}

/** Seconds that a notice stays: errors longer, as they are read in a hurry. */
const STAYS = { error: 12, info: 5 } as const;
let last = 0;

/** What the user is to know now; said aloud by screen readers. */
export const notices = signal<Notice[]>([]);

export function dismiss(id: number): void {
  notices.value = notices.value.filter((one) => one.id !== id);
}

/** Something was dealt with. */
export function settled(about: string): void {
  notices.value = notices.value.filter((one) => one.about !== about);
}

export function notify(
  kind: Notice["kind"],
  text: string,
  action?: Notice["action"],
  about?: string,
): void {
  const id = ++last;
  const others = notices.value.filter((one) => one.text !== text);
  notices.value = [...others.slice(-2), { id, kind, text, action, about }];
  window.setTimeout(() => dismiss(id), STAYS[kind] * 1000);
}
