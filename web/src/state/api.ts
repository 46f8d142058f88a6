// The HTTP interface of the PBX.

export interface Site {
  name: string;
  domain: string;
  version: string;
  sip: string;
}
export interface Account {
  user: string;
  domain: string;
  name: string;
  realm: string;
  ha1: string;
  sip_uri: string;
}
export interface Person {
  user: string;
  name: string;
  uri: string;
  online?: boolean;
}
export interface PastCall {
  id: number | string;
  direction: "in" | "out";
  peer: string;
  peer_name: string;
  start: string;
  answered: boolean;
  duration: number;
  disposition: string;
}
export interface ICE {
  iceServers: RTCIceServer[];
  ttl: number;
}

/** An answer that is none, with words for the user. ``away``: nobody answered at all. */
export class APIError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 0,
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

const AS = "pbx.user";
/** As whom this window asks: two windows of one browser, with one store of cookies, may be two people. */
let whom = sessionStorage.getItem(AS) ?? "";

/** From now on, also after a reload of this window; "" for nobody. */
export function askAs(login: string): void {
  whom = login;
  if (login === "") sessionStorage.removeItem(AS);
  else sessionStorage.setItem(AS, login);
}

/** Seconds to wait for an answer. */
const PATIENCE = 15;

async function request<T>(method: "GET" | "POST", path: string, body?: object): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE * 1000),
      headers: {
        ...(whom === "" ? {} : { "X-PBX-User": encodeURIComponent(whom) }),
        ...(method === "POST" ? { "Content-Type": "application/json" } : {}),
      },
      ...(method === "POST" ? { body: JSON.stringify(body ?? {}) } : {}),
    });
  } catch {
    throw new APIError("away", "The server cannot be reached.");
  }
  const text = await response.text();
  let content: unknown = null;
  try {
    content = text === "" ? null : JSON.parse(text);
  } catch {
    throw new APIError("away", "The server did not answer as expected.", response.status);
  }
  if (response.ok) return content as T;
  const { error = "failed", message = "" } = (content ?? {}) as { error?: string; message?: string };
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw new APIError(error, message || `The server refused (${response.status}).`, response.status, wait);
}

const query = (values: Record<string, string | number>): string =>
  new URLSearchParams(Object.entries(values).map(([key, value]) => [key, String(value)])).toString();

export const api = {
  site: () => request<Site>("GET", "api/site"),
  me: () => request<Account>("GET", "api/me"),
  login: (user: string, password: string) =>
    request<Account>("POST", "api/login", { user, password }),
  redeem: (token: string) => request<Account>("POST", "api/login", { token }),
  logout: () => request<null>("POST", "api/logout"),
  ice: () => request<ICE>("GET", "api/ice"),
  directory: (q = "", limit = 200) =>
    request<Person[]>("GET", `api/directory?${query({ q, limit })}`),
  history: (limit: number, before?: number | string) =>
    request<PastCall[]>(
      "GET",
      `api/history?${query(before === undefined ? { limit } : { limit, before })}`,
    ),
};
