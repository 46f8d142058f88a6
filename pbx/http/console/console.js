// The operator's console: asks /api/console every two seconds and shows what it says. No build.
// @ts-check

const PERIOD = 2000;
/** Points of the small curves: five minutes. */
const POINTS = 150;
const TOKEN = "pbx-console-token";

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * An element. Texts are texts: nothing from the wire is ever taken for markup.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @param {string} tag @param {Record<string, string>} attributes @param {Node[]} children */
function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const numbers = new Intl.NumberFormat("en");

/** @param {number} seconds */
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(whole / unit));
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

/** The user part of a URI, or the whole. @param {string} uri */
function user(uri) {
  const found = /^(?:sips?:|tel:)?([^@;]+)@/.exec(uri) ?? /^(?:sips?:|tel:)([^;]+)/.exec(uri);
  try {
    return found ? decodeURIComponent(found[1]) : uri;
  } catch {
    return found ? found[1] : uri;
  }
}

/** @param {string} kind @param {string} text @param {boolean} dot */
const chip = (kind, text, dot = false) =>
  h("span", { class: `chip ${kind}${dot ? " dot" : ""}` }, text);

/** @param {string[]} titles @param {HTMLElement[]} rows @param {string} empty */
function table(titles, rows, empty) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const heads = titles.map((title) => {
    const end = title.endsWith(">");
    return h("th", { scope: "col", ...(end ? { class: "number" } : {}) }, title.replace(">", ""));
  });
  // Can be scrolled by keyboard too.
  return h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows)));
}

// Curves

/** @type {Record<string, number[]>} */
const past = {};

/** @param {string} name @param {number} value */
function remember(name, value) {
  const values = (past[name] ??= []);
  values.push(value);
  if (values.length > POINTS) values.shift();
}

/** @param {number[]} values */
function curve(values) {
  const [width, height] = [110, 36];
  const top = Math.max(1, ...values);
  // A minute at first, then all that is remembered.
  const step = width / (Math.max(30, values.length) - 1);
  const first = width - step * (values.length - 1);
  const points = values.map((value, n) => `${(first + n * step).toFixed(1)},${(height - (value / top) * (height - 3)).toFixed(1)}`);
  const picture = svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (points.length > 1) {
    const area = `${first.toFixed(1)},${height} ${points.join(" ")} ${width},${height}`;
    picture.append(svg("polygon", { class: "area", points: area }), svg("polyline", { class: "line", points: points.join(" ") }));
  }
  return picture;
}

/** @param {string} label @param {string} value @param {string} under @param {string} name */
function tile(label, value, under, name = "") {
  return h(
    "div",
    { class: "card tile" },
    h("p", { class: "label" }, label),
    h("p", { class: "value" }, value),
    name ? curve(past[name] ?? []) : "",
    h("p", { class: "under" }, under),
  );
}

// Sections

/** What stands in a section now: it is made anew only when something changed. @type {Record<string, string>} */
const shown = {};

/** @param {string} id @param {unknown} content @param {() => Node[]} make */
function section(id, content, make) {
  const text = JSON.stringify(content);
  if (shown[id] === text) return;
  shown[id] = text;
  at(id).replaceChildren(...make());
}

/** @type {{time: number, counters: Record<string, number>} | null} */
let before = null;

/** How much a counter grew per second. @param {any} picture @param {string[]} names */
function rate(picture, names) {
  if (before === null || picture.now <= before.time) return 0;
  const sum = (/** @type {Record<string, number>} */ found) => names.reduce((all, name) => all + (found[name] ?? 0), 0);
  return Math.max(0, sum(picture.counters) - sum(before.counters)) / (picture.now - before.time);
}

/** @param {any} picture */
function tiles(picture) {
  const { counters, calls, status } = picture;
  const counts = status.counts ?? {};
  const messages = rate(picture, ["core:rcv_requests", "core:rcv_replies"]);
  const contacts = counts["usrloc:location-contacts"] ?? 0;
  const users = counts["usrloc:registered_users"] ?? 0;
  const failed = counters["auth:rejected"] ?? 0;
  remember("calls", calls.all);
  remember("contacts", contacts);
  remember("messages", messages);
  const opened = ["tcp", "tls", "ws", "wss"].reduce((all, name) => all + (counters[`net:${name}_connections`] ?? 0), 0);
  at("tiles").replaceChildren(
    tile("Calls", numbers.format(calls.all), `${numbers.format(calls.talking)} talking`, "calls"),
    tile("Registered phones", numbers.format(contacts), `${numbers.format(users)} users`, "contacts"),
    tile("SIP messages per second", messages < 10 ? messages.toFixed(1) : numbers.format(Math.round(messages)), `${numbers.format(opened)} open connections`, "messages"),
    tile("Wrong passwords", numbers.format(failed), `since the start; ${numbers.format(counters["web:failed_logins"] ?? 0)} on the web`),
  );
}

/** @type {Record<string, string>} */
const STATE_KIND = { calling: "", ringing: "warn", answered: "good", talking: "good" };

/** @param {any} picture */
function calls(picture) {
  const { rows, found, all } = picture.calls;
  at("calls-note").textContent = found > rows.length ? `${rows.length} of ${numbers.format(found)}` : "";
  const content = rows.map((/** @type {any} */ call) => [call.id, call.state]);
  section("calls", [content, all === 0], () => [
    table(
      ["From", "To", "State", "Between", "Duration>"],
      rows.map((/** @type {any} */ call) =>
        h(
          "tr",
          {},
          h("td", {}, h("span", { class: "who" }, user(call.from)), call.name ? h("span", { class: "sub" }, call.name) : ""),
          h("td", {}, h("span", { class: "who" }, user(call.to))),
          h("td", {}, chip(STATE_KIND[call.state] ?? "", call.state, true)),
          h("td", {}, h("span", { class: "sub" }, call.callee ? `${call.caller} → ${call.callee}` : call.caller)),
          h("td", { class: "number", "data-since": String(call.answered || call.created) }, ""),
        ),
      ),
      all === 0 ? "Nobody is talking." : "No call matches.",
    ),
  ]);
  tick(picture.now);
}

/** Seconds by which the clock of the PBX is ahead of ours. */
let ahead = 0;

/** @param {number} now */
function tick(now = Date.now() / 1000 + ahead) {
  for (const cell of document.querySelectorAll("[data-since]")) {
    cell.textContent = duration(now - Number(cell.getAttribute("data-since")));
  }
}

let domain = "";

/** The domain of a user, if it is another than the usual one. @param {string} aor */
function foreign(aor) {
  const found = aor.split("@")[1] ?? "";
  return found && found !== domain ? [h("span", { class: "sub" }, found)] : [];
}

/** @param {any} row */
function transport(row) {
  const socket = String(row.socket).split(":")[0];
  const names = /** @type {Record<string, string>} */ ({ ws: "browser", wss: "browser, TLS" });
  return socket ? chip(socket === "ws" || socket === "wss" ? "calm" : "", names[socket] ?? socket.toUpperCase()) : "";
}

/** @param {any} picture */
function registrations(picture) {
  const { rows, found } = picture.registrations;
  at("registrations-note").textContent = found > rows.length ? `${rows.length} of ${numbers.format(found)}` : found ? numbers.format(found) : "";
  const none = (picture.status.counts?.["usrloc:location-contacts"] ?? 0) === 0;
  section("registrations", [rows, none], () => [
    table(
      ["User", "Reached at", "By", "Phone", "Expires in>"],
      rows.map((/** @type {any} */ row) =>
        h(
          "tr",
          {},
          h("td", {}, h("span", { class: "who" }, user(row.aor)), ...foreign(row.aor)),
          h("td", {}, h("span", { class: "sub", title: row.contact }, (row.received || row.contact).replace(/^sips?:/, "").replace(/;.*$/, ""))),
          h("td", {}, transport(row), row.node ? h("span", { class: "sub" }, row.node) : ""),
          h("td", {}, h("span", { class: "sub", title: row.agent }, row.agent || "–")),
          h("td", { class: "number" }, typeof row.expires === "number" ? duration(row.expires) : String(row.expires)),
        ),
      ),
      none ? "No phone is registered." : "No phone matches.",
    ),
  ]);
}

/** @param {any} node */
function nodeCard(node) {
  const up = node.enabled === "yes";
  return h(
    "div",
    { class: "node" },
    h("div", { class: "title" }, h("span", { class: "who" }, node.uri.replace(/^sips?:/, "")), chip(up ? "good" : "bad", up ? "up" : "down", true)),
    ...node.Resources.map((/** @type {any} */ resource) => {
      const share = resource.max > 0 ? Math.min(1, resource.load / resource.max) : 0;
      const fill = h("div", { class: `fill${share >= 1 ? " full" : share >= 0.8 ? " high" : ""}` });
      // Through the object model: the policy of this page forbids style attributes.
      fill.style.width = `${(share * 100).toFixed(1)}%`;
      return h(
        "div",
        { class: "load" },
        h("span", { class: "muted" }, resource.name),
        h("div", { class: "track" }, fill),
        h("span", { class: "muted" }, `${resource.load} of ${resource.max}`),
      );
    }),
  );
}

/** @param {any} picture */
function routes(picture) {
  const { nodes, gateways, dispatcher } = picture;
  at("nodes-card").hidden = nodes.length === 0;
  section("nodes", nodes, () => nodes.map(nodeCard));
  at("routes-card").hidden = gateways.length + dispatcher.length === 0;
  section("routes", [gateways, dispatcher], () => [
    table(
      ["Kind", "Name", "Address", "State"],
      [
        ...gateways.map((/** @type {any} */ gateway) => ["gateway", gateway.ID, gateway.IP, gateway.State]),
        ...dispatcher.map((/** @type {any} */ one) => ["dispatcher", `set ${one.set}`, one.URI, one.state]),
      ].map(([kind, name, address, state]) =>
        h(
          "tr",
          {},
          h("td", { class: "muted" }, kind),
          h("td", { class: "who" }, String(name)),
          h("td", {}, String(address ?? "")),
          h("td", {}, chip(/^active/i.test(String(state)) ? "good" : "bad", String(state).toLowerCase(), true)),
        ),
      ),
      "",
    ),
  ]);
}

/** @param {any} picture */
function system(picture) {
  const { status, counters } = picture;
  const days = counters["tls:certificate_days_left"];
  const facts = [
    ["Version", status.version],
    ["SIP", (status.listeners ?? []).join(", ")],
    ["Web", status.web],
    ["Database", `${status.database?.url ?? "none"}${status.database?.available === false ? " (does not answer)" : ""}`],
    ["Cache", status.cache?.url ?? "none"],
    ["Certificate", days === undefined ? "none" : `${days} days left`],
  ];
  section("system", facts, () => facts.flatMap(([name, value]) => [h("dt", {}, String(name)), h("dd", {}, String(value ?? ""))]));
}

const WORDS = /** @type {Record<string, string[]>} */ ({
  ok: ["good", "all is well"],
  degraded: ["warn", "degraded"],
  down: ["bad", "down"],
});

/** @param {string} kind @param {string} text */
function pill(kind, text) {
  const found = at("health");
  found.className = `pill ${kind}`;
  if (found.textContent !== text) found.textContent = text;
}

/** @param {string} kind @param {string} text */
function notice(kind, text) {
  const found = at("notice");
  found.className = `notice ${kind}`;
  found.hidden = text === "";
  if (found.textContent !== text) found.textContent = text;
}

/** @param {any} picture */
function show(picture) {
  ahead = picture.now - Date.now() / 1000;
  const health = picture.status.health ?? { status: "down", reasons: [] };
  const [kind, word] = WORDS[health.status] ?? ["bad", health.status];
  pill(kind, word);
  notice(kind, health.reasons.join("; "));
  at("uptime").textContent = `up ${duration(picture.status.uptime ?? 0)}`;
  tiles(picture);
  calls(picture);
  routes(picture);
  registrations(picture);
  system(picture);
  at("content").hidden = false;
  at("token-form").hidden = true;
  before = { time: picture.now, counters: picture.counters };
}

// Asking

let asking = 0;

async function ask() {
  const mine = ++asking;
  const query = /** @type {HTMLInputElement} */ (at("query")).value.trim();
  const token = sessionStorage.getItem(TOKEN);
  try {
    const answer = await fetch(`/api/console?${new URLSearchParams({ q: query, limit: "200" })}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(10_000),
      headers: token ? { Authorization: `Bearer ${token}` } : {},
    });
    const found = await answer.json();
    if (mine !== asking) return;
    if (answer.ok) return show(found);
    at("content").hidden = true;
    at("token-form").hidden = found.error !== "needs_token";
    if (found.error === "needs_token") sessionStorage.removeItem(TOKEN);
    pill("warn", "not shown");
    notice(found.error === "needs_token" && !token ? "" : "warn", found.error === "needs_token" && !token ? "" : found.message);
  } catch {
    if (mine !== asking) return;
    pill("bad", "no answer");
    notice("bad", "The PBX does not answer. What you see is how it was; this page goes on asking.");
  }
}

at("search").addEventListener("submit", (event) => event.preventDefault());
let typing = 0;
at("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = window.setTimeout(() => void ask(), 200);
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (at("token"));
  sessionStorage.setItem(TOKEN, field.value.trim());
  field.value = "";
  void ask();
});

async function begin() {
  try {
    const site = await (await fetch("/api/site", { cache: "no-store" })).json();
    at("name").textContent = site.name;
    domain = site.domain;
    document.title = `${site.name} console`;
  } catch {
    // The name stays as it is.
  }
  await ask();
  window.setInterval(() => {
    if (!document.hidden && at("token-form").hidden) void ask();
  }, PERIOD);
  window.setInterval(tick, 1000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void ask();
});
void begin();
