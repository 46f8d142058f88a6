// Text messages (RFC 3428). What was said is kept in this browser, per extension.

import { computed, signal } from "@preact/signals";
import type { IncomingRequest } from "jssip/lib/SIPMessage";
import type { UA } from "jssip/lib/UA";
import { account } from "./account";
import { announce } from "./notifications";
import { notify, settled } from "./notices";
import { nameOf } from "./people";
import * as tones from "./tones";

export interface Text {
  id: string;
  peer: string;
  mine: boolean;
  text: string;
  /** When it was sent, by the server's clock where it says so. */
  time: number;
  /** stored: kept by the server until the other one signs in. */
  state: "sending" | "sent" | "stored" | "failed" | "received";
  error?: string;
  read: boolean;
  /** It waited for us this long, in milliseconds. */
  late?: number;
}

const MOST = 1000;
/** Bytes of a message; more does not fit into one request everywhere. */
export const LONGEST = 4000;
/** Milliseconds from which on a message counts as waited. */
const LATE = 30_000;

export const texts = signal<Text[]>([]);
/** With whom we write just now; "" for nobody. */
export const thread = signal("");
export const unread = computed(() => texts.value.filter((one) => !one.read).length);

export interface Conversation {
  peer: string;
  last: Text;
  unread: number;
}
export const conversations = computed<Conversation[]>(() => {
  const found = new Map<string, Conversation>();
  for (const one of texts.value) {
    const before = found.get(one.peer)?.unread ?? 0;
    found.set(one.peer, { peer: one.peer, last: one, unread: before + (one.read ? 0 : 1) });
  }
  return [...found.values()].sort((a, b) => b.last.time - a.last.time);
});

let agent: UA | null = null;
export function useAgent(now: UA | null): void {
  agent = now;
}

const key = (): string => `pbx.messages.${account.value?.user}@${account.value?.domain}`;

function stored(): Text[] {
  try {
    const found = JSON.parse(localStorage.getItem(key()) ?? "[]") as Text[];
    // What was under way when the page was closed may or may not have arrived.
    return found.map((one) =>
      one.state === "sending" ? { ...one, state: "failed", error: "Perhaps not sent." } : one,
    );
  } catch {
    return [];
  }
}

function keep(now: Text[]): void {
  texts.value = now.slice(-MOST);
  try {
    localStorage.setItem(key(), JSON.stringify(texts.value));
  } catch {
    // Storage is full or off: kept until the page is closed.
  }
}

export function loadTexts(): void {
  texts.value = stored();
}
addEventListener("storage", (event) => {
  if (account.value !== null && event.key === key()) loadTexts();
});

/** Whoever shows messages shows them now, with this peer. */
let wanted: (peer: string) => void = openThread;
export function whenWanted(show: (peer: string) => void): void {
  wanted = show;
}

export function openThread(peer: string): void {
  thread.value = peer;
  settled(`message ${peer}`);
  markRead();
}

/** What is on the screen has been read. */
export function markRead(): void {
  const peer = thread.value;
  if (document.visibilityState !== "visible") return;
  if (!texts.value.some((one) => one.peer === peer && !one.read)) return;
  keep(texts.value.map((one) => (one.peer === peer ? { ...one, read: true } : one)));
}
document.addEventListener("visibilitychange", () => markRead());

export function send(peer: string, text: string, again?: Text): void {
  const body = text.trim();
  const domain = account.value?.domain;
  if (body === "" || agent === null || domain === undefined) return;
  const id = again?.id ?? crypto.randomUUID();
  const update = (change: Partial<Text>): void =>
    keep(texts.value.map((one) => (one.id === id ? { ...one, ...change } : one)));
  const rest = texts.value.filter((one) => one.id !== id);
  keep([
    ...rest,
    { id, peer, mine: true, text: body, time: Date.now(), state: "sending", read: true },
  ]);
  if (!agent.isConnected()) {
    update({ state: "failed", error: "Not sent: the server is away." });
    return;
  }
  const to = peer.includes("@") ? `sip:${peer}` : `sip:${encodeURIComponent(peer)}@${domain}`;
  agent.sendMessage(to, body, {
    contentType: "text/plain;charset=UTF-8",
    eventHandlers: {
      succeeded: ({ response }: { response: { status_code: number } }) =>
        update({ state: response.status_code === 202 ? "stored" : "sent" }),
      failed: ({ response }: { response: { status_code: number } | null }) =>
        update({ state: "failed", error: whyNot(response?.status_code ?? 0, peer) }),
    } as never,
  });
}

function whyNot(status: number, peer: string): string {
  const who = nameOf(peer);
  if (status === 404) return `There is nobody with the number ${who}.`;
  if (status === 405 || status === 415 || status === 501)
    return `The phone of ${who} takes no text messages.`;
  if (status === 480 || status === 430) return `${who} is not reachable.`;
  if (status === 503 || status === 500) return "The server cannot keep more messages now.";
  if (status === 413) return "The message is too long.";
  return status === 0 ? "The server does not answer." : `Not sent (${status}).`;
}

/** Whether it was taken; another device of ours may have had it before. */
export function arrived(request: IncomingRequest): boolean {
  const type = (request.getHeader("Content-Type") ?? "text/plain").toLowerCase();
  if (!type.startsWith("text/plain")) return false;
  const { uri } = request.from;
  const peer = uri.host === account.value?.domain ? uri.user : `${uri.user}@${uri.host}`;
  const id = `${request.getHeader("Call-ID")} ${request.getHeader("CSeq")}`;
  if (texts.value.some((one) => one.id === id)) return true;
  const now = Date.now();
  const date = Date.parse(request.getHeader("Date") ?? "");
  const time = Number.isNaN(date) ? now : Math.min(date, now);
  const read = thread.value === peer && document.visibilityState === "visible";
  const late = now - time > LATE ? { late: now - time } : {};
  const text = { id, peer, mine: false, text: request.body, time, read, ...late };
  const all = [...texts.value, { ...text, state: "received" as const }];
  keep(all.sort((a, b) => a.time - b.time));
  if (!read) {
    tones.message();
    const text = `${nameOf(peer)}: ${request.body.slice(0, 120)}`;
    notify("info", text, { label: "Open", run: () => wanted(peer) }, `message ${peer}`);
    announce(nameOf(peer), request.body.slice(0, 200), `message-${peer}`, () => wanted(peer));
  }
  return true;
}

export function forgetThread(peer: string): void {
  keep(texts.value.filter((one) => one.peer !== peer));
}
