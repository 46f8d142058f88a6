// Who is who.

import { signal } from "@preact/signals";
import { account } from "./account";
import { api, APIError, type Person } from "./api";

/** Seconds between two looks at who is signed in. */
const REFRESH = 20;
/** Seconds after which a change is looked at, with all others that come until then. */
const SOON = 1;

/** The directory, or its first part when it is long. */
export const people = signal<Person[]>([]);
export const directoryFailed = signal("");
/** How often the server did not know us any more. */
export const signedOut = signal(0);
const names = new Map<string, string>();
let timer = 0;

function remember(found: Person[]): Person[] {
  for (const { user, name } of found) names.set(user, name || user);
  return found;
}

export async function loadPeople(): Promise<void> {
  window.clearTimeout(timer);
  if (account.value === null) return;
  try {
    people.value = remember(await api.directory());
    directoryFailed.value = "";
  } catch (error) {
    if (error instanceof APIError && error.status === 401) signedOut.value += 1;
    directoryFailed.value = error instanceof APIError ? error.message : String(error);
  }
  timer = window.setTimeout(() => void loadPeople(), REFRESH * 1000);
}

/** Somebody came or went: look again soon, once for many. */
export function lookAgain(): void {
  if (performance.now() - looked < SOON * 1000) return;
  looked = performance.now();
  window.setTimeout(() => void loadPeople(), SOON * 1000);
}
let looked = -Infinity;

export function forgetPeople(): void {
  window.clearTimeout(timer);
  people.value = [];
}

/** The name of a number; the number itself when nobody has it. */
export function nameOf(user: string, otherwise = ""): string {
  // A signal, so that names appear as soon as they are known.
  void people.value;
  return names.get(user) ?? (otherwise || user);
}

const matches = (person: Person, words: string[]): boolean => {
  const text = `${person.name} ${person.user}`.toLocaleLowerCase();
  return words.every((word) => text.includes(word));
};

/** People whose name or number holds all the words, others than oneself. */
export function search(text: string): Person[] {
  const words = text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const me = account.value?.user;
  return people.value.filter((one) => one.user !== me && matches(one, words));
}

/** The same in the whole directory, for houses of which `people` is only a part. */
export async function searchFar(text: string): Promise<Person[]> {
  const me = account.value?.user;
  const found = remember(await api.directory(text.slice(0, 64), 20));
  return found.filter((one) => one.user !== me);
}
