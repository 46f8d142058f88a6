import type { Signal } from "@preact/signals";
import { useEffect, useId } from "preact/hooks";
import { account, logout, site } from "../state/account";
import {
  canChooseSpeaker,
  loadDevices,
  microphones,
  openMicrophone,
  speakers,
  type Device,
} from "../state/devices";
import { askPermission, permission } from "../state/notifications";
import { notify } from "../state/notices";
import { settings } from "../state/settings";
import * as tones from "../state/tones";
import { microphoneText } from "../sip/reasons";
import { Icon } from "./icons";
import { MicrophoneMeter } from "./meter";
import { Avatar } from "./parts";

interface ChoiceProps {
  label: string;
  value: Signal<string>;
  from: Device[];
}
function DeviceChoice({ label, value, from }: ChoiceProps) {
  const id = useId();
  const gone = value.value !== "" && !from.some((one) => one.id === value.value);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value.value} onChange={(event) => (value.value = event.currentTarget.value)}>
        <option value="">As the system chooses</option>
        {gone && <option value={value.value}>Not plugged in now</option>}
        {from.map((one) => (
          <option key={one.id} value={one.id}>
            {one.label}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Settings() {
  const who = account.value;
  const notifications = permission.value;
  const unnamed = microphones.value.length === 0;
  useEffect(() => void loadDevices(), []);
  const allow = async (): Promise<void> => {
    try {
      (await openMicrophone()).getTracks().forEach((track) => track.stop());
    } catch (error) {
      notify("error", microphoneText(error));
    }
  };
  return (
    <div class="view settings">
      <header class="view-head">
        <h2>Settings</h2>
      </header>
      <section class="group me">
        <Avatar user={who?.user ?? ""} name={who?.name || who?.user || ""} size={52} />
        <span class="row-text">
          <b>{who?.name || who?.user}</b>
          <span>
            {who?.user}@{who?.domain}
          </span>
        </span>
        <button type="button" class="secondary" onClick={() => void logout()}>
          <Icon name="signout" size={18} /> Sign out
        </button>
      </section>
      <section class="group">
        <h3>Sound</h3>
        {unnamed && (
          <p class="hint">
            <button type="button" class="secondary" onClick={() => void allow()}>
              <Icon name="mic" size={18} /> Allow the microphone
            </button>
          </p>
        )}
        <DeviceChoice label="Microphone" value={settings.microphone} from={microphones.value} />
        <MicrophoneMeter />
        {canChooseSpeaker && (
          <>
            <DeviceChoice label="Loudspeaker" value={settings.speaker} from={speakers.value} />
            <DeviceChoice label="Ring on" value={settings.ringer} from={speakers.value} />
          </>
        )}
        <div class="field">
          <label for="volume">Loudness of the ring tone</label>
          <span class="with-button">
            <input
              id="volume"
              type="range"
              min="0"
              max="1"
              step="0.05"
              value={settings.volume.value}
              onInput={(event) => (settings.volume.value = Number(event.currentTarget.value))}
            />
            <button type="button" class="secondary" onClick={tones.tryRing}>
              Try
            </button>
          </span>
        </div>
      </section>
      <section class="group">
        <h3>Calls</h3>
        <label class="switch">
          <input
            type="checkbox"
            role="switch"
            checked={settings.callWaiting.value}
            onChange={(event) => (settings.callWaiting.value = event.currentTarget.checked)}
          />
          <span>
            Call waiting
            <small>A second caller rings while you talk; without it, they hear that you are busy.</small>
          </span>
        </label>
        {notifications !== "unsupported" && (
          <div class="field notifications">
            <span>
              Notifications
              <small>
                {notifications === "granted"
                  ? "Calls and messages are shown when this page is in the background."
                  : notifications === "denied"
                    ? "The browser blocks them; allow them beside the address bar."
                    : "See calls and messages when this page is in the background."}
              </small>
            </span>
            {notifications === "default" && (
              <button type="button" class="secondary" onClick={() => void askPermission()}>
                <Icon name="bell" size={18} /> Allow
              </button>
            )}
          </div>
        )}
      </section>
      <section class="group">
        <h3>Keys</h3>
        <dl class="keys">
          <dt>
            <kbd>Alt</kbd> <kbd>A</kbd>
          </dt>
          <dd>Answer</dd>
          <dt>
            <kbd>Alt</kbd> <kbd>E</kbd>
          </dt>
          <dd>Hang up or decline</dd>
          <dt>
            <kbd>Alt</kbd> <kbd>M</kbd>
          </dt>
          <dd>Mute</dd>
          <dt>
            <kbd>Alt</kbd> <kbd>H</kbd>
          </dt>
          <dd>Hold and resume</dd>
        </dl>
      </section>
      <p class="about">
        {site.value?.name} {site.value?.version && `· version ${site.value.version}`}
      </p>
    </div>
  );
}
