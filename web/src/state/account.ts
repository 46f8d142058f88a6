// Who is signed in.

import { computed, signal } from "@preact/signals";
import { notify } from "./notices";
import { api, askAs, APIError, type Account, type Site } from "./api";

export const site = signal<Site | null>(null);
export const account = signal<Account | null>(null);
/** starting: nobody knows yet; away: the server has to come back first. */
export const phase = signal<"starting" | "away" | "login" | "in">("starting");
export const loginError = signal("");
export const signingIn = signal(false);
export const myName = computed(() => account.value?.name || account.value?.user || "");

function entered(found: Account): void {
  askAs(`${found.user}@${found.domain}`);
  account.value = found;
  loginError.value = "";
  phase.value = "in";
}

/** The one-time token of a link, which leaves the address bar and the history at once. */
function takeToken(): string {
  const token = /^#login=([\w.~-]+)$/.exec(location.hash)?.[1] ?? "";
  if (token !== "") history.replaceState(null, "", location.pathname + location.search);
  return token;
}

function loginText(error: unknown): string {
  if (!(error instanceof APIError)) return "Signing in failed.";
  switch (error.code) {
    case "wrong_password":
      return "The extension or the password is wrong.";
    case "token_used":
      return "This link was used already or has expired. Sign in with extension and password, or ask for another link.";
    case "too_many":
      return error.retryAfter > 0
        ? `Too many attempts. Please try again in ${Math.ceil(error.retryAfter)} seconds.`
        : "Too many attempts. Please try again later.";
    default:
      return error.message;
  }
}

async function attempt(ask: () => Promise<Account>): Promise<void> {
  signingIn.value = true;
  loginError.value = "";
  try {
    entered(await ask());
  } catch (error) {
    loginError.value = loginText(error);
    phase.value = "login";
  } finally {
    signingIn.value = false;
  }
}

export const login = (user: string, password: string): Promise<void> =>
  attempt(() => api.login(user.trim(), password));

/** At the start: by the link that was opened, or as before a reload. */
export async function begin(token = takeToken()): Promise<void> {
  try {
    site.value = await api.site();
    if (token !== "") return await attempt(() => api.redeem(token));
    entered(await api.me());
  } catch (error) {
    const away = error instanceof APIError && error.code === "away";
    phase.value = away ? "away" : "login";
    if (away) window.setTimeout(() => void begin(token), 3000);
  }
}

/** A link that is opened where the page is open already; one that is no good changes nothing. */
async function another(token: string): Promise<void> {
  if (phase.value !== "in") return attempt(() => api.redeem(token));
  try {
    entered(await api.redeem(token));
  } catch (error) {
    notify("error", loginText(error));
  }
}

addEventListener("hashchange", () => {
  const token = takeToken();
  if (token !== "") void another(token);
});

/** Forget who it was; `why` is shown above the log-in. */
export async function logout(why = ""): Promise<void> {
  account.value = null;
  loginError.value = why;
  phase.value = "login";
  try {
    await api.logout();
  } catch {
    // The cookie stays until it expires; the page has forgotten the rest.
  }
  // Unless somebody logged in meanwhile.
  if (account.value === null) askAs("");
}
