// The right half: the dial pad, or the calls that are going on.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import * as state from "../state/calls";
import type { Call } from "../state/calls";
import { openThread } from "../state/messages";
import { lineState } from "../state/phone";
import * as tones from "../state/tones";
import { PersonField } from "./combobox";
import { Icon, type IconName } from "./icons";
import { Keypad } from "./keypad";
import { Avatar, Duration, IconButton } from "./parts";
import { show } from "./tabs";

/** What is written in the number field; others put something there too. */
export const number = signal("");
/** The dial pad although calls are going on: for another one. */
const adding = signal(false);

export function call(who: string): void {
  number.value = "";
  adding.value = false;
  void state.dial(who);
}

export function Stage() {
  const shown = state.shown.value;
  const live = state.liveCalls.value;
  const others = state.calls.value.filter((one) => one !== shown && one.live);
  useEffect(() => {
    if (live.length === 0) adding.value = false;
  }, [live.length]);
  const dialling = shown === null || adding.value;
  return (
    <section class="stage" aria-label="Call">
      {(dialling ? live : others).length > 0 && (
        <ul class="strips" aria-label="Other calls">
          {(dialling ? live : others).map((one) => (
            <Strip key={one.id} call={one} />
          ))}
        </ul>
      )}
      {dialling ? <Dialler /> : <Card key={shown.id} call={shown} />}
    </section>
  );
}

function Dialler() {
  const ready = lineState.value === "ready";
  const write = (value: string): void => {
    number.value = value;
  };
  return (
    <div class="dialler">
      <div class="number-row">
        <PersonField
          big
          label="Name or number to call"
          value={number.value}
          onInput={write}
          onChoose={call}
        />
        {number.value !== "" && (
          <IconButton
            icon="backspace"
            label="Delete last digit"
            onClick={() => write(number.value.slice(0, -1))}
          />
        )}
      </div>
      <Keypad
        onPress={(digit) => {
          tones.key(digit);
          write(number.value + digit);
        }}
      />
      <div class="dial-row">
        {adding.value && (
          <IconButton icon="back" label="Back to the call" onClick={() => (adding.value = false)} />
        )}
        <button
          type="button"
          class="round go"
          aria-label="Call"
          title={ready ? "Call" : "The phone is not connected"}
          disabled={!ready || number.value.trim() === ""}
          onClick={() => call(number.value)}
        >
          <Icon name="phone" size={28} />
        </button>
      </div>
    </div>
  );
}

function wordsOf(one: Call): string {
  switch (one.phase.value) {
    case "calling":
      return "Calling …";
    case "ringing":
      return "Ringing …";
    case "incoming":
      return "Incoming call";
    case "answering":
      return "Connecting …";
    case "ended":
      return one.ending.value;
    case "talking":
      if (one.transfer.value) return one.transfer.value;
      if (one.held.value) return "On hold";
      if (one.heldThere.value) return "You are on hold";
      return "";
  }
}

/** One of the calls that are not shown large. */
function Strip({ call: one }: { call: Call }) {
  const incoming = one.phase.value === "incoming";
  const name = one.name.value;
  return (
    <li class={`strip ${incoming ? "strip-incoming" : ""}`}>
      <Avatar user={one.peer} name={name} size={34} pulse={incoming} />
      <span class="strip-text">
        <b>{name}</b>
        <span>{wordsOf(one) || <Duration since={one.since.value} />}</span>
      </span>
      {incoming ? (
        <IconButton
          icon="phone"
          class="go small"
          label={`Answer ${name}`}
          onClick={() => void state.answer(one)}
          size={18}
        />
      ) : (
        <IconButton
          icon="play"
          class="small"
          label={`Talk to ${name}`}
          onClick={() => {
            adding.value = false;
            state.switchTo(one);
          }}
          size={18}
        />
      )}
      <IconButton
        icon="hangup"
        class="stop small"
        label={incoming ? `Decline ${name}` : `End the call with ${name}`}
        onClick={() => state.end(one)}
        size={18}
      />
    </li>
  );
}

function Card({ call: one }: { call: Call }) {
  const phase = one.phase.value;
  const [panel, setPanel] = useState<"" | "keypad" | "transfer">("");
  const name = one.name.value;
  const compact = panel !== "";
  const pulse = phase === "incoming" || phase === "ringing" || phase === "calling";
  const before = one.instead.value?.live ? one.instead.value : null;
  return (
    <div class={`card phase-${phase} ${one.held.value ? "is-held" : ""}`}>
      <div class={compact ? "card-head compact" : "card-head"}>
        <Avatar user={one.peer} name={name} size={compact ? 44 : 108} pulse={pulse} />
        <div class="card-who">
          <h2>{name}</h2>
          {name !== one.peer && <p class="number">{one.peer}</p>}
          <p class="state" role="status">
            {wordsOf(one)}
          </p>
          {phase === "talking" && <Duration since={one.since.value} />}
          {phase === "talking" && one.warning.value && (
            <p class="call-warning" role="alert">
              <Icon name="warning" size={16} /> {one.warning.value}
            </p>
          )}
          {one.heard.value && <p class="digits">Received: {one.heard.value.slice(-16)}</p>}
        </div>
      </div>
      {before !== null && phase !== "ended" && (
        <button type="button" class="primary join" onClick={() => state.connect(one)}>
          <Icon name="join" size={20} /> Connect {before.name.value} with {name}
        </button>
      )}
      {panel === "keypad" && phase === "talking" && (
        <div class="panel">
          <output class="digits" aria-label="Digits sent">
            {one.digits.value.slice(-20) || "\u00a0"}
          </output>
          <Keypad onPress={(digit) => state.press(one, digit)} />
        </div>
      )}
      {panel === "transfer" && phase === "talking" && (
        <Transfer call={one} done={() => setPanel("")} />
      )}
      {phase === "talking" && panel !== "transfer" && (
        <Controls call={one} panel={panel} setPanel={setPanel} />
      )}
      <Ends call={one} />
    </div>
  );
}

interface ControlsProps {
  call: Call;
  panel: string;
  setPanel: (panel: "" | "keypad" | "transfer") => void;
}
function Controls({ call: one, panel, setPanel }: ControlsProps) {
  const held = one.held.value;
  return (
    <div class={panel === "keypad" ? "controls few" : "controls"}>
      <Control
        icon={one.muted.value ? "muted" : "mic"}
        label={one.muted.value ? "Unmute" : "Mute"}
        pressed={one.muted.value}
        keys="Alt+M"
        onClick={() => state.toggleMute(one)}
      />
      <Control
        icon={held ? "play" : "pause"}
        label={held ? "Resume" : "Hold"}
        pressed={held}
        disabled={one.busy.value}
        keys="Alt+H"
        onClick={() => state.toggleHold(one)}
      />
      <Control
        icon="keypad"
        label="Keypad"
        pressed={panel === "keypad"}
        onClick={() => setPanel(panel === "keypad" ? "" : "keypad")}
      />
      <Control
        icon="transfer"
        label="Transfer"
        disabled={one.transfer.value !== ""}
        onClick={() => setPanel("transfer")}
      />
      <Control
        icon="add"
        label="Add call"
        onClick={() => {
          number.value = "";
          adding.value = true;
        }}
      />
      <Control
        icon="message"
        label="Message"
        onClick={() => {
          openThread(one.peer);
          show("messages");
        }}
      />
    </div>
  );
}

interface ControlProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  pressed?: boolean;
  disabled?: boolean;
  keys?: string;
}
function Control({ icon, label, onClick, pressed, disabled, keys }: ControlProps) {
  return (
    <button
      type="button"
      class="control"
      disabled={disabled ?? false}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
      {...(keys === undefined ? {} : { "aria-keyshortcuts": keys })}
      onClick={onClick}
    >
      <span class="control-icon">
        <Icon name={icon} size={24} />
      </span>
      <span class="control-label">{label}</span>
    </button>
  );
}

/** The buttons that begin or end it. */
function Ends({ call: one }: { call: Call }) {
  const phase = one.phase.value;
  if (phase === "ended") return <div class="ends" />;
  if (phase !== "incoming") {
    return (
      <div class="ends">
        <button
          type="button"
          class="round stop"
          aria-label="Hang up"
          aria-keyshortcuts="Alt+E"
          title="Hang up"
          onClick={() => state.end(one)}
        >
          <Icon name="hangup" size={30} />
        </button>
      </div>
    );
  }
  return (
    <div class="ends two">
      <button type="button" class="labelled" onClick={() => state.end(one)} aria-keyshortcuts="Alt+E">
        <span class="round stop">
          <Icon name="hangup" size={30} />
        </span>
        Decline
      </button>
      <button
        type="button"
        class="labelled"
        onClick={() => void state.answer(one)}
        aria-keyshortcuts="Alt+A"
      >
        <span class="round go">
          <Icon name="phone" size={28} />
        </span>
        Answer
      </button>
    </div>
  );
}

function Transfer({ call: one, done }: { call: Call; done: () => void }) {
  const [who, setWho] = useState("");
  const given = who.trim() !== "";
  const now = (): void => {
    state.transferTo(one, who);
    done();
  };
  const ask = (): void => {
    state.consult(one, who);
    done();
  };
  return (
    <div class="panel transfer">
      <header>
        <h3>Hand {one.name.value} over to</h3>
        <IconButton icon="close" label="Do not transfer" onClick={done} size={18} />
      </header>
      <PersonField
        label="Name or number to hand over to"
        value={who}
        autoFocus
        onInput={setWho}
        onChoose={setWho}
      />
      <div class="choices">
        <button type="button" class="primary" disabled={!given} onClick={now}>
          Transfer now
        </button>
        <button type="button" class="secondary" disabled={!given} onClick={ask}>
          Talk first
        </button>
      </div>
      <p class="hint">
        “Talk first” holds this call while you ask; then you connect the two, or come back.
      </p>
    </div>
  );
}

/** Alt and a letter, wherever the focus is. */
export function shortcuts(event: KeyboardEvent): void {
  const one = state.ringing.value[0] ?? state.shown.value;
  if (one === null || one === undefined || !one.live) return;
  const field = event.target instanceof HTMLElement && event.target.closest("input, textarea, select");
  if (event.altKey && !event.ctrlKey && !event.metaKey) {
    const run = {
      KeyA: () => void state.answer(one),
      KeyE: () => state.end(one),
      KeyM: () => state.toggleMute(one),
      KeyH: () => one.phase.value === "talking" && state.toggleHold(one),
    }[event.code];
    if (run === undefined) return;
    event.preventDefault();
    run();
  } else if (!field && !event.ctrlKey && !event.metaKey && /^[\d*#]$/.test(event.key)) {
    if (!adding.value) state.press(one, event.key);
  }
}
