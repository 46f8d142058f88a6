// Documents of presence (RFC 3863, RFC 4480) and of busy lamps (RFC 4235).

export type DialogState = "idle" | "ringing" | "busy";
export type Availability = "available" | "away" | "dnd" | "offline";

const PIDF = "urn:ietf:params:xml:ns:pidf";
const RPID = "urn:ietf:params:xml:ns:pidf:rpid";

function parse(text: string): Document | null {
  const found = new DOMParser().parseFromString(text, "application/xml");
  return found.getElementsByTagName("parsererror").length > 0 ? null : found;
}

/** What a user is doing, by the most important of the calls; null when the text is none. */
export function readDialogInfo(text: string): DialogState | null {
  const found = parse(text);
  if (found === null) return null;
  let doing: DialogState = "idle";
  for (const dialog of found.getElementsByTagNameNS("*", "dialog")) {
    const state = dialog.getElementsByTagNameNS("*", "state")[0]?.textContent?.trim();
    if (state === undefined || state === "terminated") continue;
    // Whoever calls is busy from the first ring on; only the called one can still pick up.
    const called = dialog.getAttribute("direction") === "recipient";
    if (state === "confirmed" || !called) return "busy";
    doing = "ringing";
  }
  return doing;
}

/** Whether a user can be reached; null when nothing was said. */
export function readPresence(text: string): Availability | null {
  const found = parse(text);
  if (found === null) return null;
  const basics = [...found.getElementsByTagNameNS(PIDF, "basic")].map((one) =>
    (one.textContent ?? "").trim(),
  );
  if (basics.length === 0) return null;
  if (!basics.includes("open")) return "offline";
  const has = (name: string): boolean => found.getElementsByTagNameNS(RPID, name).length > 0;
  if (has("busy")) return "dnd";
  return has("away") ? "away" : "available";
}

/** The presence of one device. */
export function writePresence(entity: string, tuple: string, now: Availability): string {
  const activity = { available: "", away: "<r:away/>", dnd: "<r:busy/>", offline: "" }[now];
  const basic = now === "offline" ? "closed" : "open";
  const person = activity
    ? `<d:person id="p${tuple}"><r:activities>${activity}</r:activities></d:person>`
    : "";
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\r\n<presence xmlns="${PIDF}"` +
    ` xmlns:d="urn:ietf:params:xml:ns:pidf:data-model" xmlns:r="${RPID}" entity="${entity}">` +
    `<tuple id="t${tuple}"><status><basic>${basic}</basic></status></tuple>${person}</presence>`
  );
}
