// Everything that the page plays by itself, made of oscillators.

import { playOn } from "./devices";
import { settings } from "./settings";

/** One sound: when it begins, how long it lasts, its frequencies. */
type Beep = readonly [at: number, length: number, ...hertz: number[]];
interface Pattern {
  readonly period: number;
  readonly beeps: readonly Beep[];
  readonly level: number;
}

const chime = (at: number): Beep[] => [
  [at, 0.34, 523.25, 1046.5],
  [at + 0.17, 0.34, 659.25, 1318.5],
  [at + 0.34, 0.6, 783.99, 1568],
];
const PATTERNS = {
  /** Somebody calls us. */
  ring: { period: 3, beeps: [...chime(0), ...chime(1)], level: 1 },
  /** A second caller, while we talk. */
  waiting: { period: 4, beeps: [[0, 0.15, 425], [0.3, 0.15, 425]], level: 0.25 },
  /** The other side rings (ITU-T E.180, as most of Europe has it). */
  ringback: { period: 5, beeps: [[0, 1, 425]], level: 0.2 },
} as const satisfies Record<string, Pattern>;

const KEYS = "123A456B789C*0#D";
const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477, 1633];

let context: AudioContext | null = null;

function audio(): AudioContext {
  context ??= new AudioContext();
  // Silent until the first key or click on the page: browsers want it so.
  if (context.state === "suspended") void context.resume().catch(() => undefined);
  return context;
}
for (const kind of ["pointerdown", "keydown"]) {
  addEventListener(kind, () => void (context?.state === "suspended" && context.resume()), true);
}

function play(beeps: readonly Beep[], level: number, into: AudioNode, from: number): void {
  const { context: at } = into;
  for (const [begin, length, ...hertz] of beeps) {
    hertz.forEach((frequency, index) => {
      const gain = at.createGain();
      const start = from + begin;
      // Overtones softer, and no clicks at the ends.
      const peak = (level * 0.5) / (1 + 1.5 * index);
      gain.gain.setValueAtTime(0, start);
      gain.gain.linearRampToValueAtTime(peak, start + 0.012);
      gain.gain.setValueAtTime(peak, start + Math.max(0.02, length - 0.12));
      gain.gain.linearRampToValueAtTime(0, start + length);
      const tone = new OscillatorNode(at, { frequency });
      tone.connect(gain).connect(into);
      tone.start(start);
      tone.stop(start + length + 0.02);
    });
  }
}

/** A tone that goes on until it is stopped. */
class Player {
  #stop: (() => void) | null = null;
  #now = "";

  start(name: keyof typeof PATTERNS): void {
    if (this.#now === name) return;
    this.stop();
    this.#now = name;
    const at = audio();
    const { period, beeps, level }: Pattern = PATTERNS[name];
    void playOn(at as unknown as { setSinkId?(id: string): Promise<void> }, this.#speaker(name));
    const out = at.createGain();
    out.gain.value = level * (name === "ring" ? settings.volume.value : 1);
    out.connect(at.destination);
    const round = (): void => {
      // What was not heard because the page may not sound yet is not made up for.
      if (at.state === "running") play(beeps, 1, out, at.currentTime + 0.02);
      if (name === "ring") navigator.vibrate?.([300, 200, 300]);
    };
    round();
    const timer = window.setInterval(round, period * 1000);
    this.#stop = () => {
      window.clearInterval(timer);
      out.disconnect();
      if (name === "ring") navigator.vibrate?.(0);
    };
  }

  stop(): void {
    this.#stop?.();
    this.#stop = null;
    this.#now = "";
  }

  #speaker(name: string): string {
    return name === "ring" ? settings.ringer.value : settings.speaker.value;
  }
}

export const alerting = new Player();

function once(beeps: readonly Beep[], level: number): void {
  const at = audio();
  play(beeps, level, at.destination, at.currentTime + 0.01);
}

/** The sound of a key. */
export function key(digit: string): void {
  const index = KEYS.indexOf(digit);
  if (index < 0) return;
  once([[0, 0.14, ROWS[index >> 2]!, COLUMNS[index & 3]!]], 0.15);
}

/** Not connected. */
export const busy = (): void =>
  once([0, 0.5, 1].map((at): Beep => [at, 0.25, 425]), 0.2);

/** It is over. */
export const ended = (): void => once([[0, 0.12, 480], [0.14, 0.18, 360]], 0.15);

/** A message came. */
export const message = (): void =>
  once([[0, 0.12, 880], [0.1, 0.25, 1174.7]], 0.3 * settings.volume.value);

/** So that its loudness and loudspeaker can be tried. */
export function tryRing(): void {
  alerting.start("ring");
  window.setTimeout(() => alerting.stop(), 2200);
}
