import { useEffect } from "preact/hooks";
import type { PastCall } from "../state/api";
import * as history from "../state/history";
import { openThread } from "../state/messages";
import { nameOf } from "../state/people";
import { Icon } from "./icons";
import { Avatar, clockwork, dayOf, Empty, fullTime, IconButton, timeOf } from "./parts";
import { call } from "./stage";
import { show } from "./tabs";

const OUTCOMES: Readonly<Record<string, string>> = {
  busy: "Busy",
  cancelled: "Cancelled",
  missed: "No answer",
  failed: "Not connected",
};

function outcome(one: PastCall): string {
  if (one.answered) return clockwork(one.duration);
  if (history.missed(one)) return "Missed";
  return OUTCOMES[one.disposition] ?? "No answer";
}

export function Recents() {
  const past = history.past.value;
  useEffect(() => history.markSeen(), [past]);
  let day = "";
  return (
    <div class="view">
      <header class="view-head">
        <h2>Recents</h2>
      </header>
      {history.pastFailed.value && <p class="view-problem">{history.pastFailed.value}</p>}
      {past.length === 0 && !history.pastFailed.value ? (
        <Empty icon="clock" title="No calls yet">
          Calls that you make and receive are listed here.
        </Empty>
      ) : (
        <ul class="rows" aria-label="Past calls">
          {past.map((one) => {
            const at = Date.parse(one.start);
            const heading = dayOf(at);
            const first = heading !== day;
            day = heading;
            const lost = history.missed(one);
            const name = nameOf(one.peer, one.peer_name);
            const icon = lost ? "missed" : one.direction === "in" ? "incoming" : "outgoing";
            const way = one.direction === "in" ? "Incoming" : "Outgoing";
            return [
              first && (
                <li key={`day ${heading}`} class="day">
                  <h3>{heading}</h3>
                </li>
              ),
              <li key={one.id} class={lost ? "row missed" : "row"}>
                <Avatar user={one.peer} name={name} />
                <span class="row-text">
                  <b>{name}</b>
                  <span>
                    <Icon name={icon} size={15} />
                    <span class="sr-only">{way}</span>
                    {name !== one.peer && <span class="number">{one.peer}</span>}
                    {outcome(one)}
                  </span>
                </span>
                <time class="row-time" dateTime={one.start} title={fullTime(at)}>
                  {timeOf(at)}
                </time>
                <IconButton
                  icon="message"
                  label={`Write to ${name}`}
                  onClick={() => {
                    openThread(one.peer);
                    show("messages");
                  }}
                />
                <IconButton
                  icon="phone"
                  class="call-row"
                  label={`Call ${name}`}
                  onClick={() => {
                    call(one.peer);
                    show("keypad");
                  }}
                />
              </li>,
            ];
          })}
        </ul>
      )}
      {history.more.value && (
        <button
          type="button"
          class="secondary more"
          disabled={history.loading.value}
          onClick={() => void history.loadMore()}
        >
          Earlier calls
        </button>
      )}
    </div>
  );
}
