// Every call of this page.

import { computed, signal, type Signal } from "@preact/signals";
import type { IncomingRequest, IncomingResponse } from "jssip/lib/SIPMessage";
import type { IncomingDTMFEvent, OutgoingDTMFEvent, RTCSession } from "jssip/lib/RTCSession";
import { failureText, answeredElsewhere, microphoneText } from "../sip/reasons";
import { openMicrophone, playOn } from "./devices";
import { watchSound } from "./sound";
import { announce } from "./notifications";
import { notify } from "./notices";
import { nameOf } from "./people";
import { settings } from "./settings";
import * as tones from "./tones";

export type Phase = "calling" | "ringing" | "incoming" | "answering" | "talking" | "ended";
/** More than that ring busy. */
const MOST_CALLS = 4;
/** Milliseconds that an ended call stays to be read. */
const LINGER = 1800;
/** Milliseconds until candidates that were found must do: a STUN server may be silent. */
const GATHERING = 1500;

type Message = IncomingRequest | IncomingResponse | null | undefined;

export class Call {
  readonly phase: Signal<Phase>;
  readonly held = signal(false);
  readonly heldThere = signal(false);
  readonly muted = signal(false);
  readonly busy = signal(false);
  readonly since = signal(0);
  readonly digits = signal("");
  readonly heard = signal("");
  readonly ending = signal("");
  readonly warning = signal("");
  /** What is being done about handing it over. */
  readonly transfer = signal("");
  /** The call that waits for this one to be joined with it. */
  readonly instead = signal<Call | null>(null);
  readonly name = computed(() => nameOf(this.peer, this.shown));
  stream: MediaStream | null = null;
  readonly player = new Audio();
  silence: () => void = () => {};

  constructor(
    readonly id: string,
    readonly session: RTCSession,
    readonly incoming: boolean,
    readonly peer: string,
    readonly uri: string,
    readonly shown: string,
  ) {
    this.phase = signal<Phase>(incoming ? "incoming" : "calling");
    this.player.autoplay = true;
  }

  get live(): boolean {
    return this.phase.value !== "ended";
  }
}

export const calls = signal<Call[]>([]);
/** The one that is shown large. */
export const shown = signal<Call | null>(null);
export const liveCalls = computed(() => calls.value.filter((one) => one.live));
export const ringing = computed(() => calls.value.filter((one) => one.phase.value === "incoming"));
/** A call has ended: the history has changed. */
export const endedCalls = signal(0);

/** What calls need of the phone that has them. */
export interface Line {
  readonly domain: string;
  ready(): boolean;
  call(target: string, options: object): RTCSession;
  pcConfig(): RTCConfiguration;
}
let line: Line | null = null;
export function useLine(now: Line | null): void {
  line = now;
}

// Beginning

/** "0 30 / 12-34" as it was typed: what a phone would dial. */
export function dialled(text: string): string {
  const typed = text.trim().replace(/^sips?:/i, "");
  return /^[+\d\s()./-]*[*#\d]$/.test(typed) || /^[*#+\d\s()./-]+$/.test(typed)
    ? typed.replace(/[\s()./-]/g, "")
    : typed.replace(/\s/g, "");
}

function target(text: string): string {
  const who = dialled(text);
  const [user = "", host = line?.domain ?? ""] = who.split("@", 2);
  return `sip:${encodeURIComponent(user).replace(/%(2B|2A|3B|3D|24)/gi, decodeURIComponent)}@${host}`;
}

/** Call somebody. The calls that are going on are held. */
export async function dial(text: string, instead: Call | null = null): Promise<Call | null> {
  const who = dialled(text);
  if (who === "" || line === null) return null;
  if (!line.ready()) {
    notify("error", "The phone is not connected to the server, so it cannot call now.");
    return null;
  }
  if (liveCalls.value.length >= MOST_CALLS) {
    notify("error", "There are too many calls already. End one first.");
    return null;
  }
  let stream: MediaStream;
  try {
    stream = await openMicrophone();
  } catch (error) {
    notify("error", microphoneText(error));
    return null;
  }
  if (line === null || !line.ready()) {
    release(stream);
    return null;
  }
  holdOthers(null);
  pendingInstead = instead;
  pendingStream = stream;
  try {
    line.call(target(text), options(stream));
  } catch {
    notify("error", `${who} is not a number that can be called.`);
    release(stream);
  }
  pendingInstead = null;
  pendingStream = null;
  return shown.value;
}
let pendingInstead: Call | null = null;
let pendingStream: MediaStream | null = null;

function options(stream: MediaStream): object {
  return {
    mediaStream: stream,
    mediaConstraints: { audio: true, video: false },
    pcConfig: { ...line?.pcConfig(), bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" },
  };
}

/** JsSIP has a new session, of whatever origin. */
export function adopt(session: RTCSession, incoming: boolean): void {
  const known = session.data as { replaces?: Call };
  const other = session.remote_identity;
  const call = new Call(
    session.id,
    session,
    incoming,
    other.uri.user || other.uri.host,
    `sip:${other.uri.user}@${other.uri.host}`,
    other.display_name ?? "",
  );
  if (incoming && known.replaces === undefined && !admits()) {
    session.terminate({ status_code: 486 });
    return;
  }
  listen(call);
  calls.value = [...calls.value.filter((one) => one.live), call];
  if (!incoming) {
    call.stream = pendingStream;
    call.instead.value = pendingInstead;
    hear(call, session.connection);
    shown.value = call;
  } else if (known.replaces !== undefined) {
    call.phase.value = "answering";
    shown.value = call;
  } else {
    if (shown.value === null || !shown.value.live) shown.value = call;
    call.silence = announce(`${call.name.value} is calling`, call.peer, `call-${call.id}`, () => {
      shown.value = call;
    });
  }
  sound();
}

function admits(): boolean {
  if (settings.status.value === "dnd") return false;
  const live = liveCalls.value.length;
  return live === 0 || (settings.callWaiting.value && live < MOST_CALLS);
}

export async function answer(call: Call): Promise<void> {
  if (call.phase.value !== "incoming") return;
  call.phase.value = "answering";
  shown.value = call;
  sound();
  let stream: MediaStream;
  try {
    stream = await openMicrophone();
  } catch (error) {
    notify("error", microphoneText(error));
    // It goes on ringing, here and elsewhere: the microphone may yet be found.
    if (call.live) call.phase.value = "incoming";
    sound();
    return;
  }
  if (!call.live) return release(stream);
  holdOthers(call);
  call.stream = stream;
  call.session.answer(options(stream));
}

// What JsSIP says about it

function listen(call: Call): void {
  const { session } = call;
  session.on("peerconnection", ({ peerconnection }) => hear(call, peerconnection));
  let gathering = 0;
  session.on("icecandidate", ({ ready }) => {
    gathering ||= window.setTimeout(ready, GATHERING);
  });
  session.on("progress", () => {
    if (!call.incoming) call.phase.value = "ringing";
    sound();
  });
  session.on("accepted", () => {
    call.phase.value = "talking";
    call.since.value = Date.now();
    call.silence();
    sound();
    const stop = watchSound(call);
    session.on("ended", stop);
    session.on("failed", stop);
  });
  session.on("hold", ({ originator }) => {
    (String(originator) === "local" ? call.held : call.heldThere).value = true;
  });
  session.on("unhold", ({ originator }) => {
    (String(originator) === "local" ? call.held : call.heldThere).value = false;
  });
  session.on("newDTMF", (event: IncomingDTMFEvent | OutgoingDTMFEvent) => {
    if (String(event.originator) === "remote") call.heard.value += event.dtmf.tone;
  });
  session.on("failed", ({ originator, cause, message }) =>
    failed(call, String(originator), cause, message as Message),
  );
  session.on("ended", ({ originator, cause }) => {
    const lost = cause === "RTP Timeout" || cause === "Connection Error" || cause === "No ACK";
    if (lost) notify("error", failureText(cause, null, call.name.value));
    const words = String(originator) === "remote" ? `${call.name.value} hung up.` : "Call ended.";
    over(call, call.transfer.value || (lost ? "The connection was lost." : words));
    tones.ended();
  });
  session.on("refer", ({ request, accept, reject }) => {
    void referred(call, request, accept, reject);
  });
  session.on("replaces", ({ accept }) => {
    accept((session: RTCSession) => {
      session.data = { replaces: call };
      // JsSIP announces it first and can answer it after that.
      window.setTimeout(() => void takeOver(call, session), 0);
    });
  });
}

function failed(call: Call, originator: string, cause: string, message: Message): void {
  const name = call.name.value;
  if (call.incoming) {
    const missed = originator === "remote" || cause === "No Answer";
    const elsewhere = answeredElsewhere(message);
    over(call, elsewhere ? "Answered on another phone." : missed ? "Missed call." : "Declined.");
    if (originator !== "remote" && !["Rejected", "Canceled", "Busy", "No Answer", "Terminated"].includes(cause)) {
      notify("error", failureText(cause, message, name));
    }
    return;
  }
  if (originator === "local" && cause === "Canceled") return over(call, "Call ended.");
  const text = failureText(cause, message, name);
  notify("error", text);
  over(call, text);
  tones.busy();
  // Whoever waited while we asked somebody else is asked what to do now, not forgotten.
  const before = call.instead.value;
  if (before?.live) shown.value = before;
}

function over(call: Call, words: string): void {
  call.ending.value = words;
  call.phase.value = "ended";
  call.silence();
  release(call.stream);
  call.player.srcObject = null;
  endedCalls.value += 1;
  sound();
  window.setTimeout(() => {
    calls.value = calls.value.filter((one) => one !== call);
    if (shown.value === call) shown.value = liveCalls.value.at(-1) ?? null;
  }, LINGER);
  const others = liveCalls.value;
  if (shown.value === call && others.length > 0) shown.value = others.at(-1) ?? null;
}

function release(stream: MediaStream | null): void {
  stream?.getTracks().forEach((track) => track.stop());
}

function hear(call: Call, connection: RTCPeerConnection): void {
  connection.addEventListener("track", ({ track, streams }) => {
    call.player.srcObject = streams[0] ?? new MediaStream([track]);
    void playOn(call.player, settings.speaker.value);
    call.player.play().catch(() => {
      if (call.live) {
        notify("error", "The browser holds the sound back until you click on the page.", {
          label: "Play",
          run: () => void call.player.play(),
        });
      }
    });
    // Early media: the caller hears what the other side plays, not our own tone.
    track.addEventListener("unmute", sound);
  });
}

/** The tone that fits what is going on. */
function sound(): void {
  const live = liveCalls.value;
  const talking = live.some((one) => one.phase.value === "talking" || one.phase.value === "answering");
  const first = live.find((one) => one.phase.value === "ringing");
  if (ringing.value.length > 0) tones.alerting.start(talking || first ? "waiting" : "ring");
  else if (first !== undefined && !hasEarlyMedia(first)) tones.alerting.start("ringback");
  else tones.alerting.stop();
}

function hasEarlyMedia(call: Call): boolean {
  const stream = call.player.srcObject;
  return stream instanceof MediaStream && stream.getAudioTracks().some((track) => !track.muted);
}

// Doing things with it

export function end(call: Call): void {
  if (!call.live) return;
  if (call.phase.value === "incoming") call.session.terminate({ status_code: 603 });
  else call.session.terminate();
}

export function endAll(): void {
  for (const call of liveCalls.value) end(call);
}

export function toggleMute(call: Call): void {
  if (call.phase.value !== "talking") return;
  call.muted.value = !call.muted.value;
  if (call.muted.value) call.session.mute({ audio: true });
  else call.session.unmute({ audio: true });
}

/** Hold or resume; false when the other side is just changing something itself. */
function setHeld(call: Call, wanted: boolean, done: () => void = () => {}): boolean {
  if (call.phase.value !== "talking" || call.held.value === wanted) {
    done();
    return true;
  }
  call.busy.value = true;
  const finished = (): void => {
    call.busy.value = false;
    done();
  };
  const begun = wanted
    ? call.session.hold({}, finished)
    : call.session.unhold({}, finished);
  if (!begun) call.busy.value = false;
  // No answer at all: JsSIP ends the call then, so this is only for the button.
  window.setTimeout(() => (call.busy.value = false), 8000);
  return begun;
}

export function toggleHold(call: Call): void {
  const wanted = !call.held.value;
  if (!wanted) holdOthers(call);
  if (!setHeld(call, wanted)) notify("info", "One moment: the call is just being changed.");
}

function holdOthers(but: Call | null): void {
  for (const call of liveCalls.value) if (call !== but) setHeld(call, true);
}

/** Show a call and talk in it. */
export function switchTo(call: Call): void {
  shown.value = call;
  if (call.phase.value !== "talking") return;
  holdOthers(call);
  setHeld(call, false);
}

/** Milliseconds of a key: short ones get lost in jitter buffers. */
const TONE = { duration: 180, interToneGap: 70, transportType: "RFC2833" };

export function press(call: Call, digit: string): void {
  if (call.phase.value !== "talking") return;
  tones.key(digit);
  call.digits.value += digit;
  const sender = call.session.connection?.getSenders().find((one) => one.dtmf)?.dtmf;
  // RFC 4733 where both sides have it, else INFO.
  const way = sender?.canInsertDTMF ? TONE : { ...TONE, transportType: "INFO" };
  call.session.sendDTMF(digit, way as never);
}

// Handing over

/** Blind transfer: the other side calls somebody else in place of us. */
export function transferTo(call: Call, text: string): void {
  const who = dialled(text);
  if (who === "" || call.phase.value !== "talking") return;
  const name = nameOf(who);
  setHeld(call, true, () => refer(call, target(text), name, undefined));
}

/** Talk to somebody first; the first call is held meanwhile. */
export function consult(call: Call, text: string): void {
  void dial(text, call);
}

/** Join the call that waits with the one that we asked in. */
export function connect(second: Call): void {
  const first = second.instead.value;
  if (first === null || !first.live || !second.live) return;
  if (second.phase.value !== "talking") {
    // Not answered yet: let the caller wait for it instead of us.
    end(second);
    shown.value = first;
    return transferTo(first, second.peer);
  }
  setHeld(second, true, () => refer(first, second.uri, second.name.value, second));
}

function refer(call: Call, uri: string, name: string, second: Call | undefined): void {
  call.transfer.value = `Handing over to ${name} …`;
  const failedBecause = (why: string): void => {
    call.transfer.value = "";
    notify("error", `Not handed over to ${name}: ${why}`);
    shown.value = call;
  };
  const eventHandlers = {
    accepted: () => {
      call.transfer.value = `Handed over to ${name}.`;
      notify("info", `${call.name.value} was handed over to ${name}.`);
      if (call.live) end(call);
    },
    failed: ({ status_line }: { status_line: { status_code: number; reason_phrase: string } }) =>
      failedBecause(failureText("", status_line as unknown as IncomingResponse, name)),
    requestFailed: () => failedBecause("the other phone cannot do that."),
  };
  const replaces = second === undefined ? {} : { replaces: second.session };
  call.session.refer(uri, { eventHandlers, ...replaces } as never);
}

/** We are asked to call somebody else in place of the one we talk to. */
async function referred(
  call: Call,
  request: IncomingRequest,
  accept: Function,
  reject: () => void,
): Promise<void> {
  const to = (request as unknown as { refer_to: { uri: { user: string } } }).refer_to.uri.user;
  notify("info", `${call.name.value} hands you over to ${nameOf(to)}.`);
  let stream: MediaStream;
  try {
    stream = await openMicrophone();
  } catch (error) {
    notify("error", microphoneText(error));
    reject();
    return;
  }
  if (!call.live) return release(stream);
  pendingStream = stream;
  accept(undefined, options(stream));
  pendingStream = null;
}

/** A call that takes the place of another one (RFC 3891): it needs no ringing. */
async function takeOver(before: Call, session: RTCSession): Promise<void> {
  const call = calls.value.find((one) => one.session === session);
  if (call === undefined) return;
  const stream = await openMicrophone().catch(() => null);
  if (stream === null || !call.live) return;
  call.stream = stream;
  before.transfer.value = `Now with ${call.name.value}.`;
  session.answer(options(stream));
}

// Devices that are chosen during a call

settings.speaker.subscribe((speaker) => {
  for (const call of calls.peek()) void playOn(call.player, speaker);
});

let microphone = settings.microphone.peek();
settings.microphone.subscribe((chosen) => {
  if (chosen === microphone) return;
  microphone = chosen;
  for (const call of calls.peek()) if (call.live && call.stream) void changeMicrophone(call);
});

async function changeMicrophone(call: Call): Promise<void> {
  try {
    const stream = await openMicrophone();
    const track = stream.getAudioTracks()[0] ?? null;
    const sender = call.session.connection?.getSenders().find((one) => one.track?.kind === "audio");
    if (track === null || sender === undefined || !call.live) return release(stream);
    track.enabled = sender.track?.enabled ?? true;
    const old = call.stream;
    await sender.replaceTrack(track);
    // JsSIP mutes what it knows as ours.
    old?.getTracks().forEach((one) => {
      old.removeTrack(one);
      one.stop();
    });
    old?.addTrack(track);
  } catch (error) {
    notify("error", microphoneText(error));
  }
}
