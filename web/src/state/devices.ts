// Microphones and loudspeakers.

import { signal } from "@preact/signals";
import { settings } from "./settings";

export interface Device {
  id: string;
  label: string;
}

export const microphones = signal<Device[]>([]);
export const speakers = signal<Device[]>([]);
/** Firefox before 116 and Safari play where the system says. */
export const canChooseSpeaker = "setSinkId" in HTMLMediaElement.prototype;

const named = (kind: MediaDeviceKind, word: string, all: MediaDeviceInfo[]): Device[] =>
  all
    .filter((one) => one.kind === kind && one.deviceId !== "" && one.deviceId !== "default")
    .map((one, index) => ({ id: one.deviceId, label: one.label || `${word} ${index + 1}` }));

/** Look what there is; names are known once the microphone was allowed. */
export async function loadDevices(): Promise<void> {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  microphones.value = named("audioinput", "Microphone", all);
  speakers.value = named("audiooutput", "Loudspeaker", all);
}
navigator.mediaDevices?.addEventListener("devicechange", () => void loadDevices());

/** The chosen microphone, or any when that one is gone. */
export async function openMicrophone(): Promise<MediaStream> {
  if (navigator.mediaDevices === undefined) {
    throw Object.assign(new Error("no microphone on insecure pages"), { name: "InsecureContext" });
  }
  const chosen = settings.microphone.value;
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    const audio = chosen ? { ...wanted, deviceId: { exact: chosen } } : wanted;
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const gone = error instanceof DOMException && error.name === "OverconstrainedError";
    if (!gone || !chosen) throw error;
    settings.microphone.value = "";
    return navigator.mediaDevices.getUserMedia({ audio: wanted });
  } finally {
    void loadDevices();
  }
}

/** Play an element, or all tones, on a loudspeaker; on the system's own when it is gone. */
export async function playOn(
  player: { setSinkId?(id: string): Promise<void> },
  speaker: string,
): Promise<void> {
  try {
    await player.setSinkId?.(speaker);
  } catch {
    await player.setSinkId?.("").catch(() => undefined);
  }
}
