// The connection to the PBX: a JsSIP user agent that is signed in.

import { effect, signal } from "@preact/signals";
import { UA, URI } from "jssip";
import type { IncomingRequest } from "jssip/lib/SIPMessage";
import type { IncomingMessageEvent, OutgoingMessageEvent, RTCSessionEvent } from "jssip/lib/UA";
import { writePresence } from "../sip/documents";
import { Publisher } from "../sip/publisher";
import { KeptSocket } from "../sip/socket";
import { account, logout, site } from "./account";
import { api, type Account } from "./api";
import { adopt, endAll, liveCalls, useLine } from "./calls";
import { watchWith } from "./lamps";
import { loadHistory } from "./history";
import { arrived, loadTexts, useAgent } from "./messages";
import { loadPeople, signedOut } from "./people";
import { notify } from "./notices";
import { settings } from "./settings";

type MessageEvent = IncomingMessageEvent | OutgoingMessageEvent;
export type Line = "connecting" | "ready" | "away" | "offline" | "refused";
/** ready: signed in, can call and be called. */
export const lineState = signal<Line>("connecting");
/** When the next attempt is made, in milliseconds. */
export const nextAttempt = signal(0);

const REGISTER_EXPIRES = 600;
/** Seconds between attempts to connect. */
const SHORTEST = 1;
const LONGEST = 8;
/** Seconds until a registration that failed is tried again. */
const REGISTER_AGAIN = 10;

/** The same over a reload, so that the new connection replaces the old one; never in two tabs. */
async function instanceId(): Promise<string> {
  const known = sessionStorage.getItem("pbx.instance") ?? "";
  const mine = known !== "" && (await lock(known)) ? known : crypto.randomUUID();
  if (mine !== known) {
    await lock(mine);
    sessionStorage.setItem("pbx.instance", mine);
  }
  return mine;
}

/** Hold a name until the page is closed; false when another tab holds it (a duplicated one). */
function lock(name: string): Promise<boolean> {
  if (navigator.locks === undefined) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(`pbx-${name}`, { ifAvailable: true }, (got) => {
      resolve(got !== null);
      return got === null ? undefined : new Promise<never>(() => {});
    });
  });
}

class Phone {
  #ua: UA;
  #socket: KeptSocket;
  #publisher: Publisher;
  #again = 0;
  #attempts = 0;
  #ice: RTCIceServer[] = [];
  #iceTimer = 0;
  #tuple: string;
  #wasReady = false;
  readonly domain: string;

  constructor(who: Account, instance: string) {
    this.domain = who.domain;
    this.#tuple = instance.slice(0, 8);
    const path = site.value?.sip ?? "/sip";
    const url = new URL(path, location.href);
    url.protocol = url.protocol === "https:" || url.protocol === "wss:" ? "wss:" : "ws:";
    url.hash = "";
    this.#socket = new KeptSocket(url.href);
    this.#ua = new UA({
      sockets: [this.#socket],
      uri: who.sip_uri,
      display_name: who.name || who.user,
      authorization_user: who.user,
      ha1: who.ha1,
      realm: who.realm,
      instance_id: instance,
      register_expires: REGISTER_EXPIRES,
      connection_recovery_min_interval: SHORTEST,
      connection_recovery_max_interval: LONGEST,
      no_answer_timeout: 120,
      user_agent: `pbx web phone ${site.value?.version ?? ""}`.trim(),
    });
    const me = new URI("sip", who.user, who.domain);
    this.#publisher = new Publisher(this.#ua, me, "presence", "application/pidf+xml");
    this.#listen();
  }

  start(): void {
    lineState.value = navigator.onLine ? "connecting" : "offline";
    useLine({
      domain: this.domain,
      ready: () => this.#ua.isRegistered(),
      call: (target, options) => this.#ua.call(target, options),
      pcConfig: () => ({ iceServers: this.#ice }),
    });
    useAgent(this.#ua);
    void this.#loadICE();
    this.#ua.start();
  }

  /** Signed out: calls end, the registration goes. */
  stop(): void {
    window.clearTimeout(this.#again);
    window.clearTimeout(this.#iceTimer);
    this.#publisher.withdraw();
    useLine(null);
    useAgent(null);
    watchWith(null);
    this.#ua.removeAllListeners();
    this.#ua.stop();
  }

  /** The page goes away: whoever we talk to is to know at once. */
  leave(): void {
    endAll();
    this.#publisher.withdraw();
    this.#ua.unregister();
  }

  publish(): void {
    if (!this.#ua.isRegistered()) return;
    const entity = `sip:${account.value?.user}@${this.domain}`;
    this.#publisher.publish(writePresence(entity, this.#tuple, settings.status.value));
  }

  /** Connect now, not when JsSIP thinks it is time; or see whether the connection still works. */
  hurry(): void {
    if (this.#ua.isConnected()) {
      this.#socket.check();
      return;
    }
    const { transport } = this.#ua as unknown as { transport: { connect(): void } };
    transport.connect();
  }

  #listen(): void {
    const ua = this.#ua;
    ua.on("connecting", () => {
      if (lineState.value !== "refused") lineState.value = this.#attempts > 0 ? "away" : "connecting";
      nextAttempt.value = 0;
    });
    ua.on("connected", () => {
      this.#attempts = 0;
      lineState.value = "connecting";
    });
    ua.on("disconnected", () => {
      this.#attempts += 1;
      this.#publisher.stop();
      watchWith(null);
      lineState.value = navigator.onLine ? "away" : "offline";
    });
    ua.on("registered", () => this.#registered());
    ua.on("registrationFailed", ({ response }) => {
      const status = (response as { status_code?: number } | null)?.status_code ?? 0;
      if (status === 401 || status === 403 || status === 407) return this.#refused();
      if (!ua.isConnected()) return;
      lineState.value = "away";
      window.clearTimeout(this.#again);
      this.#again = window.setTimeout(() => ua.register(), REGISTER_AGAIN * 1000);
    });
    ua.on("unregistered", () => {
      if (ua.isConnected() && lineState.value === "ready") lineState.value = "connecting";
    });
    ua.on("newRTCSession", ({ originator, session }: RTCSessionEvent) =>
      adopt(session, String(originator) === "remote"),
    );
    ua.on("newMessage", ({ originator, message, request }: MessageEvent) => {
      if (String(originator) !== "remote") return;
      if (!arrived(request as IncomingRequest)) message.reject({ status_code: 415 });
    });
  }

  #registered(): void {
    lineState.value = "ready";
    if (this.#wasReady) notify("info", "Connected again.");
    this.#wasReady = true;
    watchWith(this.#ua);
    this.publish();
    void loadPeople();
    void loadHistory();
  }

  #refused(): void {
    lineState.value = "refused";
    this.#ua.removeAllListeners("disconnected");
    this.#ua.stop();
    void logout("The server does not accept this log-in any more: the password may have changed.");
  }

  async #loadICE(): Promise<void> {
    let seconds = 60;
    try {
      const { iceServers, ttl } = await api.ice();
      this.#ice = iceServers;
      seconds = Math.min(Math.max(ttl / 2, 30), 3600);
    } catch {
      // In the same network calls work without.
    }
    this.#iceTimer = window.setTimeout(() => void this.#loadICE(), seconds * 1000);
  }
}

const phone = signal<Phone | null>(null);

export const hurry = (): void => phone.peek()?.hurry();

let signedIn: Account | null = null;
effect(() => {
  const who = account.value;
  if (who === signedIn) return;
  signedIn = who;
  phone.peek()?.stop();
  phone.value = null;
  if (who === null) return;
  loadTexts();
  void loadPeople();
  void loadHistory();
  void instanceId().then((instance) => {
    if (signedIn !== who) return;
    phone.value = new Phone(who, instance);
    phone.value.start();
  });
});

effect(() => {
  // Not in the middle of a call: the phone itself still works.
  if (signedOut.value > 0 && liveCalls.peek().length === 0 && account.peek() !== null) {
    void logout("Please sign in again.");
  }
});

effect(() => {
  void settings.status.value;
  phone.value?.publish();
});

addEventListener("online", () => hurry());
addEventListener("offline", () => {
  if (phone.peek() !== null && lineState.value !== "refused") lineState.value = "offline";
  hurry();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") hurry();
});
addEventListener("pagehide", () => phone.peek()?.leave());
// Back from the cache of pages: everything was let go, so begin anew.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
addEventListener("beforeunload", (event) => {
  if (liveCalls.peek().length > 0) event.preventDefault();
});
