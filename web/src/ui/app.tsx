import { useEffect } from "preact/hooks";
import { account, myName, phase, site } from "../state/account";
import * as calls from "../state/calls";
import { missedCalls } from "../state/history";
import { openThread, thread, unread, whenWanted } from "../state/messages";
import { dismiss, notices } from "../state/notices";
import { askPermission, permission } from "../state/notifications";
import { hurry, lineState, type Line } from "../state/phone";
import { settings } from "../state/settings";
import type { Availability } from "../sip/documents";
import { Icon, Mark } from "./icons";
import { Login } from "./login";
import { Messages } from "./messages";
import { Avatar, Duration, useNarrow } from "./parts";
import { People } from "./people";
import { Recents } from "./recents";
import { Settings } from "./settings";
import { shortcuts, Stage } from "./stage";
import { show, tab, TABS, type Tab } from "./tabs";

export function App() {
  switch (phase.value) {
    case "starting":
      return (
        <main class="login">
          <Mark size={52} />
        </main>
      );
    case "away":
    case "login":
      return (
        <>
          <Login />
          <Notices />
        </>
      );
    case "in":
      return <Phone />;
  }
}

const VIEWS: Readonly<Record<Exclude<Tab, "keypad">, () => preact.JSX.Element>> = {
  people: People,
  recents: Recents,
  messages: Messages,
  settings: Settings,
};

function Phone() {
  const narrow = useNarrow();
  const now = tab.value === "keypad" && !narrow ? "people" : tab.value;
  useEffect(() => {
    addEventListener("keydown", shortcuts);
    return () => removeEventListener("keydown", shortcuts);
  }, []);
  useTitle();
  // On a small screen a call comes to the front.
  const first = calls.ringing.value[0];
  useEffect(() => {
    if (first !== undefined) show("keypad");
  }, [first]);

  const View = now === "keypad" ? null : VIEWS[now];
  return (
    <div class={narrow ? "app narrow" : "app"}>
      <Rail narrow={narrow} now={now} />
      <div class="middle">
        <TopBar />
        <Invitation />
        {narrow && now !== "keypad" && <CallBar />}
        <main class={now === "messages" && thread.value ? "main in-thread" : "main"}>
          {View !== null && <View />}
          {narrow && now === "keypad" && <Stage />}
        </main>
      </div>
      {!narrow && <Stage />}
      <Notices />
      <Alarm />
    </div>
  );
}

whenWanted((peer) => {
  openThread(peer);
  show("messages");
});

function useTitle(): void {
  const house = site.value?.name || "Phone";
  const ringing = calls.ringing.value[0];
  const talking = calls.liveCalls.value.find((one) => one.phase.value === "talking");
  const news = missedCalls.value + unread.value;
  const title = ringing
    ? `${ringing.name.value} is calling`
    : talking
      ? `${talking.name.value} · ${house}`
      : news > 0
        ? `(${news}) ${house}`
        : house;
  useEffect(() => {
    document.title = title;
  }, [title]);
}

function badgeOf(one: Tab): number {
  if (one === "recents") return tab.value === "recents" ? 0 : missedCalls.value;
  if (one === "messages") return unread.value;
  return 0;
}

function Rail({ narrow, now }: { narrow: boolean; now: Tab }) {
  return (
    <nav class="rail" aria-label="Main">
      {!narrow && <Mark size={40} />}
      <ul>
        {TABS.filter((one) => narrow || one.tab !== "keypad").map(({ tab: one, label, icon }) => {
          const news = badgeOf(one);
          return (
            <li key={one}>
              <button
                type="button"
                {...(one === now ? { "aria-current": "page" as const } : {})}
                onClick={() => (tab.value = one)}
              >
                <span class="rail-icon">
                  <Icon name={icon} size={24} />
                  {news > 0 && (
                    <span class="badge">
                      {news > 99 ? "99+" : news}
                      <span class="sr-only"> new</span>
                    </span>
                  )}
                </span>
                {label}
              </button>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

const LINES: Readonly<Record<Line, string>> = {
  connecting: "Connecting …",
  ready: "",
  away: "The server is away. Connecting again …",
  offline: "This computer is offline.",
  refused: "Signed out by the server.",
};
const STATUS: ReadonlyArray<readonly [Availability, string]> = [
  ["available", "Available"],
  ["away", "Away"],
  ["dnd", "Do not disturb"],
];

function TopBar() {
  const line = lineState.value;
  const who = account.value;
  const trouble = line === "away" || line === "offline";
  return (
    <>
      <header class="top">
        <h1 class="sr-only">Phone of {myName.value}</h1>
        <Avatar user={who?.user ?? ""} name={myName.value} size={34} />
        <span class="top-who">
          <b>{myName.value}</b>
          {myName.value !== who?.user && <span class="number">{who?.user}</span>}
        </span>
        <label class={`my-status lamp-text-${line === "ready" ? settings.status.value : "offline"}`}>
          <span class="sr-only">My status</span>
          <span
            class={`lamp lamp-${line === "ready" ? settings.status.value : "offline"}`}
            aria-hidden="true"
          />
          <select
            value={settings.status.value}
            disabled={line !== "ready"}
            onChange={(event) => {
              settings.status.value = event.currentTarget.value as Availability;
            }}
          >
            {STATUS.map(([value, label]) => (
              <option key={value} value={value}>
                {line === "ready" ? label : "Not connected"}
              </option>
            ))}
          </select>
        </label>
      </header>
      <div class={`line line-${line}`} role="status" aria-label="Connection">
        {line !== "ready" && (
          <>
            {trouble ? <Icon name="warning" size={18} /> : <span class="spinner" aria-hidden="true" />}
            <span>{LINES[line]}</span>
            {trouble && (
              <button type="button" onClick={hurry}>
                Try now
              </button>
            )}
          </>
        )}
        {line === "ready" && <span class="sr-only">Connected</span>}
      </div>
    </>
  );
}

/** Once: may the browser notify? */
function Invitation() {
  const busy = calls.liveCalls.value.length > 0;
  if (permission.value !== "default" || settings.asked.value || busy) return null;
  return (
    <aside class="invitation" aria-label="Notifications">
      <Icon name="bell" size={20} />
      <span>See calls and messages also while you work in another window?</span>
      <button
        type="button"
        class="secondary"
        onClick={() => {
          settings.asked.value = true;
          void askPermission();
        }}
      >
        Allow
      </button>
      <button type="button" class="quiet" onClick={() => (settings.asked.value = true)}>
        Not now
      </button>
    </aside>
  );
}

/** On a small screen: the way back to the call. */
function CallBar() {
  const one = calls.shown.value;
  if (one === null || !one.live) return null;
  return (
    <button type="button" class="call-bar" onClick={() => (tab.value = "keypad")}>
      <Icon name="phone" size={18} />
      <span>{one.name.value}</span>
      {one.phase.value === "talking" && <Duration since={one.since.value} />}
      <span class="back-to">Back to the call</span>
    </button>
  );
}

/** Who calls, said aloud at once. */
function Alarm() {
  const one = calls.ringing.value[0];
  return (
    <div class="sr-only" role="alert">
      {one && `Incoming call from ${one.name.value}. Alt A answers, Alt E declines.`}
    </div>
  );
}

function Notices() {
  return (
    <div class="notices">
      <div role="alert">
        {notices.value
          .filter((one) => one.kind === "error")
          .map((one) => (
            <NoticeLine key={one.id} one={one} />
          ))}
      </div>
      <div role="status">
        {notices.value
          .filter((one) => one.kind === "info")
          .map((one) => (
            <NoticeLine key={one.id} one={one} />
          ))}
      </div>
    </div>
  );
}

function NoticeLine({ one }: { one: (typeof notices.value)[number] }) {
  return (
    <div class={`notice notice-${one.kind}`}>
      {one.kind === "error" && <Icon name="warning" size={18} />}
      <span>{one.text}</span>
      {one.action && (
        <button
          type="button"
          class="quiet"
          onClick={() => {
            one.action?.run();
            dismiss(one.id);
          }}
        >
          {one.action.label}
        </button>
      )}
      <button type="button" class="dismiss" aria-label="Dismiss" onClick={() => dismiss(one.id)}>
        <Icon name="close" size={16} />
      </button>
    </div>
  );
}
