// Documents of presence (RFC 3863, RFC 4480) and of busy lamps (RFC 4235).

export type DialogState = "idle" | "ringing" | "busy";
export type Availability = "available" | "away" | "dnd" | "offline";

const PIDF = "urn:ietf:params:xml:ns:pidf";
const RPID = "urn:ietf:params:xml:ns:pidf:rpid";
const PERSON = "urn:ietf:params:xml:ns:pidf:data-model";

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
  const tuples = [...found.getElementsByTagNameNS(PIDF, "tuple")];
  const persons = [...found.getElementsByTagNameNS(PERSON, "person")];
  if (tuples.length === 0) return null;
  let newest = "";
  let best: Availability = "offline";
  for (const tuple of tuples) {
    const basic = tuple.getElementsByTagNameNS(PIDF, "basic")[0]?.textContent?.trim();
    if (basic !== "open") continue;
    // Ours names tuple and person alike; other phones speak of the person as a whole.
    const own = `p${(tuple.getAttribute("id") ?? "").slice(1)}`;
    const mine = persons.filter((one) => one.getAttribute("id") === own);
    // Of several devices the one on which something was said last.
    const when = tuple.getElementsByTagNameNS(PIDF, "timestamp")[0]?.textContent?.trim() ?? "";
    if (best !== "offline" && when < newest) continue;
    newest = when;
    best = activity(mine.length > 0 || isOurs(tuple) ? mine : persons);
  }
  return best;
}

const isOurs = (tuple: Element): boolean => /^t[0-9a-f]{8}$/.test(tuple.getAttribute("id") ?? "");

function activity(persons: Element[]): Availability {
  const has = (name: string): boolean =>
    persons.some((one) => one.getElementsByTagNameNS(RPID, name).length > 0);
  return has("busy") ? "dnd" : has("away") ? "away" : "available";
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
    ` xmlns:d="${PERSON}" xmlns:r="${RPID}" entity="${entity}">` +
    `<tuple id="t${tuple}"><status><basic>${basic}</basic></status>` +
    `<timestamp>${new Date().toISOString()}</timestamp></tuple>${person}</presence>`
  );
}
