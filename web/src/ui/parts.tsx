// Small parts that several views share.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { LAMP_WORDS, lampOf, type Lamp } from "../state/lamps";
import { nameOf } from "../state/people";
import { Icon, type IconName } from "./icons";

/** The second hand of the page. */
const tick = signal(Date.now());
window.setInterval(() => (tick.value = Date.now()), 1000);

const two = (value: number): string => String(value).padStart(2, "0");

/** 65 -> "1:05" */
export function clockwork(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const hours = Math.floor(whole / 3600);
  const rest = `${Math.floor((whole % 3600) / 60)}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest.padStart(5, "0")}` : rest;
}

export function Duration({ since }: { since: number }) {
  return <time class="duration">{clockwork((tick.value - since) / 1000)}</time>;
}

export function Countdown({ until }: { until: number }) {
  return <>{Math.max(1, Math.ceil((until - tick.value) / 1000))}</>;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

export const timeOf = (at: number): string => time.format(at);
export const fullTime = (at: number): string => full.format(at);

/** "Today", "Yesterday", "Monday", "12 Mar" */
export function dayOf(at: number): string {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.round((midnight - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return weekday.format(at);
  return (new Date(at).getFullYear() === new Date().getFullYear() ? day : year).format(at);
}

/** Hue of a person, so that one is found again by colour. */
function hueOf(user: string): number {
  let hash = 7;
  for (const letter of user) hash = (hash * 31 + letter.charCodeAt(0)) % 9973;
  // By the golden angle: neighbours in number are far apart in colour.
  return Math.round((hash * 137.508) % 360);
}

function initials(name: string): string {
  if (/^[+\d*#]+$/.test(name)) return name.slice(-2);
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0]!, words.at(-1)!] : [name];
  return letters.map((word) => [...word][0] ?? "").join("").toLocaleUpperCase();
}

interface AvatarProps {
  user: string;
  name?: string;
  size?: number;
  lamp?: boolean;
  pulse?: boolean;
}
export function Avatar({ user, name, size = 40, lamp = false, pulse = false }: AvatarProps) {
  const px = (value: number): string => `${value}px`;
  return (
    <span class={pulse ? "avatar pulse" : "avatar"} style={{ width: px(size), height: px(size) }}>
      <span
        class="face"
        style={{ "--hue": String(hueOf(user)), fontSize: px(Math.round(size * 0.38)) }}
        aria-hidden="true"
      >
        {initials(name ?? nameOf(user))}
      </span>
      {lamp && <LampDot lamp={lampOf(user)} />}
    </span>
  );
}

export function LampDot({ lamp }: { lamp: Lamp }) {
  if (lamp === "unknown") return null;
  return <span class={`lamp lamp-${lamp}`} role="img" aria-label={LAMP_WORDS[lamp]} />;
}

interface ButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  class?: string;
  pressed?: boolean;
  disabled?: boolean;
  keys?: string;
  size?: number;
}
/** A round button that shows an icon and says its label. */
export function IconButton(props: ButtonProps) {
  const { icon, label, onClick, pressed, disabled, keys, size } = props;
  return (
    <button
      type="button"
      class={`icon-button ${props.class ?? ""}`}
      aria-label={label}
      title={label}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
      {...(keys === undefined ? {} : { "aria-keyshortcuts": keys })}
      disabled={disabled ?? false}
      onClick={onClick}
    >
      <Icon name={icon} {...(size === undefined ? {} : { size })} />
    </button>
  );
}

interface EmptyProps {
  icon: IconName;
  title: string;
  children?: ComponentChildren;
}
export function Empty({ icon, title, children }: EmptyProps) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={icon} size={28} />
      </span>
      <h3>{title}</h3>
      {children && <p>{children}</p>}
    </div>
  );
}

/** Whether the window is as narrow as a phone. */
export function useNarrow(): boolean {
  const media = window.matchMedia("(max-width: 819px)");
  const [narrow, setNarrow] = useState(media.matches);
  useEffect(() => {
    const changed = (): void => setNarrow(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return narrow;
}
