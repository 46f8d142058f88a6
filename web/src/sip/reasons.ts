// Why a call did not come about, or ended, in words for its user.

import type { IncomingRequest, IncomingResponse } from "jssip/lib/SIPMessage";

/** Final answers that say something; others are told by number. */
const ANSWERS: Readonly<Record<number, (who: string) => string>> = {
  403: (who) => `You may not call ${who}.`,
  404: (who) => `There is nobody with the number ${who}.`,
  604: (who) => `There is nobody with the number ${who}.`,
  408: (who) => `${who} did not answer.`,
  410: (who) => `${who} is no longer in use.`,
  480: (who) => `${who} is not reachable: no phone is signed in.`,
  430: (who) => `${who} is not reachable: the connection to the phone is lost.`,
  484: (who) => `${who} is not a complete number.`,
  486: (who) => `${who} is busy.`,
  600: (who) => `${who} is busy.`,
  487: (who) => `${who} did not answer.`,
  488: (who) => `The phone of ${who} has no common way to talk with a browser.`,
  606: (who) => `The phone of ${who} has no common way to talk with a browser.`,
  503: () => "No line is free at the moment. Please try again later.",
  603: (who) => `${who} declined the call.`,
};

const CAUSES: Readonly<Record<string, (who: string) => string>> = {
  "Connection Error": () => "The connection to the server is lost.",
  "Request Timeout": () => "The server does not answer.",
  "No Answer": (who) => `${who} did not answer.`,
  Expires: (who) => `${who} did not answer.`,
  "WebRTC Error": () => "The browser could not set up the sound.",
  "Bad Media Description": (who) => `The phone of ${who} has no common way to talk with a browser.`,
  "Incompatible SDP": (who) => `The phone of ${who} has no common way to talk with a browser.`,
  "Missing SDP": (who) => `The phone of ${who} has no common way to talk with a browser.`,
  "RTP Timeout": () => "The connection was lost: no sound could be exchanged.",
  "No ACK": () => "The connection was lost.",
  "Dialog Error": () => "The other side does not know this call any more.",
  "Authentication Error": () => "The server refused your password. Please sign in again.",
};

type Message = IncomingRequest | IncomingResponse | null | undefined;

/** Why a call to somebody failed. */
export function failureText(cause: string, message: Message, who: string): string {
  const status = message && "status_code" in message ? message.status_code : 0;
  if (status === 401 || status === 407) return CAUSES["Authentication Error"]!(who);
  const known = ANSWERS[status] ?? CAUSES[cause];
  if (known !== undefined) return known(who);
  if (status >= 500) return `The server could not connect the call (${status}).`;
  return status > 0
    ? `The call was not connected (${status} ${(message as IncomingResponse).reason_phrase}).`
    : "The call was not connected.";
}

/** Whether another phone of ours took the call (RFC 3326). */
export function answeredElsewhere(message: Message): boolean {
  if (!message?.hasHeader?.("Reason")) return false;
  return message.getHeaders("Reason").some((reason) => /\bcause\s*=\s*200\b/.test(reason));
}

/** Why there is no microphone. */
export function microphoneText(error: unknown): string {
  switch (error instanceof DOMException || error instanceof Error ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser does not let this page use the microphone. Allow it beside the address bar, then try again.";
    case "NotFoundError":
    case "DevicesNotFoundError":
      return "No microphone was found. Plug one in, then try again.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone cannot be used: another program may have it.";
    case "OverconstrainedError":
      return "The chosen microphone is gone. Choose another one in the settings.";
    case "InsecureContext":
      return "Browsers give the microphone to secure pages only. Open this page with https://.";
    default:
      return "The microphone could not be opened.";
  }
}
