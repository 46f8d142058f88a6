// What colleagues are doing: busy lamps (RFC 4235) and presence (RFC 3856).

import { effect, signal } from "@preact/signals";
import type { MessageEventMap, Subscriber as Bare } from "jssip/lib/Subscriber";
import type { UA } from "jssip/lib/UA";
import { readDialogInfo, readPresence, type Availability, type DialogState } from "../sip/documents";
import { account } from "./account";
import { lookAgain, people } from "./people";

/** JsSIP's declarations give a Subscriber no events, as its EventEmitter is not generic. */
type Subscriber = Bare & {
  on<T extends keyof MessageEventMap>(
    name: T,
    listener: (...values: MessageEventMap[T]) => void,
  ): void;
};

export type Lamp = "available" | "away" | "dnd" | "ringing" | "busy" | "offline" | "unknown";
export const LAMP_WORDS: Readonly<Record<Lamp, string>> = {
  available: "Available",
  away: "Away",
  dnd: "Do not disturb",
  ringing: "Ringing",
  busy: "On a call",
  offline: "Offline",
  unknown: "",
};

/** People that are watched at most; in a larger house the first ones. */
const MOST = 60;
const EXPIRES = 900;
/** Seconds until a subscription that was refused or lost is tried again. */
const AGAIN = 60;
const PACKAGES = {
  dialog: "application/dialog-info+xml",
  presence: "application/pidf+xml",
} as const;

const dialogs = signal<Readonly<Record<string, DialogState>>>({});
const presences = signal<Readonly<Record<string, Availability>>>({});
const watched = new Map<string, Subscriber[]>();
let agent: UA | null = null;

/** The lamp of somebody, the most telling of what is known. */
export function lampOf(user: string): Lamp {
  const doing = dialogs.value[user];
  if (doing === "busy" || doing === "ringing") return doing;
  const online = people.value.find((one) => one.user === user)?.online;
  const said = presences.value[user];
  // A device that was cut off cannot take back what it published.
  if (online === false) return "offline";
  if (said !== undefined && said !== "offline") return said;
  if (online === true) return "available";
  return said ?? "unknown";
}

/** Watch with another connection, or no more at all (null). */
export function watchWith(now: UA | null): void {
  agent = now;
  // The server forgot them with the connection that they came by.
  watched.clear();
  dialogs.value = {};
  presences.value = {};
  watchAll();
}

function watchAll(): void {
  if (agent === null || !agent.isRegistered()) return;
  const me = account.peek()?.user;
  const wanted = people.peek().slice(0, MOST).map((one) => one.user);
  for (const user of wanted) if (user !== me && !watched.has(user)) watch(user);
}

function watch(user: string): void {
  watched.set(user, []);
  subscribe(user, "dialog");
  subscribe(user, "presence");
}

function subscribe(user: string, event: keyof typeof PACKAGES): void {
  const by = agent;
  const mine = watched.get(user);
  const domain = account.peek()?.domain;
  if (by === null || mine === undefined || domain === undefined) return;
  const uri = `sip:${encodeURIComponent(user)}@${domain}`;
  const one = by.subscribe(uri, event, PACKAGES[event], { expires: EXPIRES }) as Subscriber;
  mine.push(one);
  one.on("notify", (_final, _request, body) => {
    if (agent === by && body) read(user, event, body);
  });
  one.on("terminated", (_code, _reason, retryAfter) => {
    if (watched.get(user) !== mine) return;
    mine.splice(mine.indexOf(one), 1);
    const seconds = Math.max(AGAIN, retryAfter ?? 0);
    window.setTimeout(() => {
      if (agent === by && watched.get(user) === mine && by.isRegistered()) subscribe(user, event);
    }, seconds * 1000);
  });
  one.subscribe();
}

function read(user: string, event: keyof typeof PACKAGES, body: string): void {
  if (event === "dialog") {
    const state = readDialogInfo(body);
    if (state !== null) dialogs.value = { ...dialogs.value, [user]: state };
  } else {
    const state = readPresence(body);
    if (state !== null) presences.value = { ...presences.value, [user]: state };
    // Perhaps a phone more or less.
    lookAgain();
  }
}

effect(() => {
  void people.value;
  watchAll();
});
