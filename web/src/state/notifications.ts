// Notifications of the browser, for when the page is behind other windows.

import { signal } from "@preact/signals";

const supported = "Notification" in window;
export const permission = signal<NotificationPermission | "unsupported">(
  supported ? Notification.permission : "unsupported",
);

export async function askPermission(): Promise<void> {
  if (supported) permission.value = await Notification.requestPermission();
}

/** Tell the user, unless the page is in front; returns what takes it back. */
export function announce(title: string, body: string, tag: string, opened: () => void): () => void {
  if (!supported || Notification.permission !== "granted") return () => {};
  if (document.visibilityState === "visible" && document.hasFocus()) return () => {};
  try {
    const shown = new Notification(title, { body, tag, icon: "favicon.svg" });
    shown.onclick = () => {
      window.focus();
      opened();
      shown.close();
    };
    return () => shown.close();
  } catch {
    // Chromium on Android has them from service workers only.
    return () => {};
  }
}
