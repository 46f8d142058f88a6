import { useState } from "preact/hooks";
import { account } from "../state/account";
import { LAMP_WORDS, lampOf } from "../state/lamps";
import { openThread } from "../state/messages";
import { directoryFailed, people, search } from "../state/people";
import { Icon } from "./icons";
import { Avatar, Empty, IconButton } from "./parts";
import { call } from "./stage";
import { show } from "./tabs";

export function People() {
  const [text, setText] = useState("");
  const me = account.value?.user;
  const found = text.trim() ? search(text) : people.value.filter((one) => one.user !== me);
  return (
    <div class="view">
      <header class="view-head">
        <h2>People</h2>
        <label class="filter">
          <Icon name="search" size={18} />
          <span class="sr-only">Search people</span>
          <input
            type="search"
            placeholder="Search"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
      </header>
      {directoryFailed.value && <p class="view-problem">{directoryFailed.value}</p>}
      {found.length === 0 ? (
        <Empty icon="people" title={text ? "Nobody found" : "Nobody else is here yet"}>
          {text
            ? "Try a part of the name or the number."
            : "Extensions that are added appear here by themselves."}
        </Empty>
      ) : (
        <ul class="rows" aria-label="Colleagues">
          {found.map((one) => {
            const lamp = lampOf(one.user);
            return (
              <li key={one.user} class="row" data-user={one.user}>
                <Avatar user={one.user} name={one.name} lamp />
                <span class="row-text">
                  <b>{one.name}</b>
                  <span class={`lamp-text text-${lamp}`}>
                    {one.name !== one.user && <span class="number">{one.user}</span>}
                    {LAMP_WORDS[lamp]}
                  </span>
                </span>
                <IconButton
                  icon="message"
                  label={`Write to ${one.name}`}
                  onClick={() => {
                    openThread(one.user);
                    show("messages");
                  }}
                />
                <IconButton
                  icon="phone"
                  class="call-row"
                  label={`Call ${one.name}`}
                  onClick={() => {
                    call(one.user);
                    show("keypad");
                  }}
                />
              </li>
            );
          })}
        </ul>
      )}
    </div>
  );
}
