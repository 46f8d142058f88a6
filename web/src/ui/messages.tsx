import { useEffect, useRef, useState } from "preact/hooks";
import * as messages from "../state/messages";
import type { Text } from "../state/messages";
import { nameOf } from "../state/people";
import { PersonField } from "./combobox";
import { Icon } from "./icons";
import { Avatar, dayOf, Empty, fullTime, IconButton, timeOf } from "./parts";
import { call } from "./stage";
import { show } from "./tabs";

export function Messages() {
  const peer = messages.thread.value;
  return (
    <div class={peer ? "view messages has-thread" : "view messages"}>
      <Conversations />
      {peer ? (
        <Thread key={peer} peer={peer} />
      ) : (
        <div class="thread nobody">
          <Empty icon="message" title="Write to a colleague">
            Who is away gets the message when signing in.
          </Empty>
        </div>
      )}
    </div>
  );
}

function Conversations() {
  const [who, setWho] = useState("");
  const open = (peer: string): void => {
    const user = peer.trim();
    setWho("");
    if (user) messages.openThread(user);
  };
  return (
    <div class="conversations">
      <header class="view-head">
        <h2>Messages</h2>
        <PersonField
          label="Name or number to write to"
          placeholder="Write to …"
          value={who}
          onInput={setWho}
          onChoose={open}
        />
      </header>
      {messages.conversations.value.length === 0 && (
        <Empty icon="message" title="No messages yet">
          Who is away gets yours when signing in.
        </Empty>
      )}
      <ul class="rows" aria-label="Conversations">
        {messages.conversations.value.map(({ peer, last, unread }) => (
          <li key={peer}>
            <button
              type="button"
              class="row as-button"
              aria-current={messages.thread.value === peer}
              onClick={() => messages.openThread(peer)}
            >
              <Avatar user={peer} lamp />
              <span class="row-text">
                <b>{nameOf(peer)}</b>
                <span class="clip">{(last.mine ? "You: " : "") + last.text}</span>
              </span>
              <span class="row-end">
                <time>{dayOf(last.time) === "Today" ? timeOf(last.time) : dayOf(last.time)}</time>
                {unread > 0 && (
                  <span class="badge">
                    {unread}
                    <span class="sr-only"> unread</span>
                  </span>
                )}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Thread({ peer }: { peer: string }) {
  const all = messages.texts.value.filter((one) => one.peer === peer);
  const list = useRef<HTMLOListElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");
  const name = nameOf(peer);

  useEffect(() => {
    messages.markRead();
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [all.length]);
  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    // As high as what is written.
    const box = field.current;
    if (box === null) return;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 140)}px`;
  }, [text]);

  const send = (): void => {
    messages.send(peer, text);
    setText("");
    field.current?.focus();
  };
  let day = "";
  return (
    <section class="thread" aria-label={`Messages with ${name}`}>
      <header>
        <IconButton
          icon="back"
          class="thread-back"
          label="Back to all messages"
          onClick={() => (messages.thread.value = "")}
        />
        <Avatar user={peer} size={36} lamp />
        <span class="thread-who">
          <h2>{name}</h2>
          {name !== peer && <span class="number">{peer}</span>}
        </span>
        <IconButton
          icon="trash"
          label={`Delete the messages with ${name}`}
          onClick={() => {
            messages.forgetThread(peer);
            messages.thread.value = "";
          }}
        />
        <IconButton
          icon="phone"
          class="call-row"
          label={`Call ${name}`}
          onClick={() => {
            call(peer);
            show("keypad");
          }}
        />
      </header>
      <ol ref={list} aria-live="polite" aria-relevant="additions">
        {all.map((one) => {
          const heading = dayOf(one.time);
          const first = heading !== day;
          day = heading;
          return [
            first && (
              <li key={`day ${heading}`} class="day">
                <h3>{heading}</h3>
              </li>
            ),
            <Bubble key={one.id} one={one} />,
          ];
        })}
      </ol>
      <form
        class="compose"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <label class="sr-only" for="compose">
          Message to {name}
        </label>
        <textarea
          id="compose"
          ref={field}
          rows={1}
          maxLength={messages.LONGEST}
          placeholder={`Message to ${name}`}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        <button type="submit" class="round go send" aria-label="Send" disabled={!text.trim()}>
          <Icon name="send" size={20} />
        </button>
      </form>
    </section>
  );
}

const STATES: Readonly<Record<Text["state"], string>> = {
  sending: "Sending …",
  sent: "Delivered",
  stored: "Waits until they sign in",
  failed: "Not sent",
  received: "",
};

function Bubble({ one }: { one: Text }) {
  const words = one.error && one.state === "failed" ? one.error : STATES[one.state];
  return (
    <li class={`bubble ${one.mine ? "mine" : "theirs"} is-${one.state}`}>
      <p>{one.text}</p>
      <span class="bubble-foot">
        {one.late !== undefined && <span>Sent while you were away ·</span>}
        <time dateTime={new Date(one.time).toISOString()} title={fullTime(one.time)}>
          {timeOf(one.time)}
        </time>
        {words && <span class="bubble-state">· {words}</span>}
        {one.state === "failed" && (
          <button type="button" onClick={() => messages.send(one.peer, one.text, one)}>
            Send again
          </button>
        )}
      </span>
    </li>
  );
}
