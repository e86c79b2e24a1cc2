// The status page: asks every two seconds while it is seen.

import * as api from "./api.js";
import { count, day, moment, money } from "./format.js";
import { lang, loadTexts, t } from "./text.js";

const EVERY_MS = 2_000;

const $ = (id) => document.getElementById(id);
const say = (id, text) => {
  const element = $(id);
  element.classList.remove("skeleton");
  if (element.textContent !== text) element.textContent = text;
};
const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);

let before = null;

function show(status) {
  say("as-of", t("as-of", { time: moment(status.as_of, status.as_of) }));
  showTiles(status);
  $("sources").replaceChildren(...status.sources.map(sourceRow));
  list("charges", charges(status.ledger));
  list("positions", [
    [t("positions-durable"), count(status.positions.durable)],
    [t("positions-applied"), count(status.positions.applied)],
    [t("positions-committed"), count(status.positions.committed)],
  ]);
  $("tables").replaceChildren(...status.tables.map(({ table, rows }) => row([table, count(rows)], 1, 1)));
}

function showTiles({ meters, sources, waiting_frames, gap_ranges, tables, ledger, as_of }) {
  say("meters", t("meters-of", { heard: count(meters.heard), registered: count(meters.registered) }));
  const recent = t("meters-recent", { count: count(meters.heard_recently), minutes: Math.round(meters.recent_s / 60) });
  const last = meters.last_heard_at ? ` · ${t("meters-last", { time: moment(meters.last_heard_at, as_of) })}` : "";
  say("meters-note", recent + last);
  const received = sum(sources, (source) => source.received);
  say("frames", count(received));
  say("frames-note", `${t("frames-rate", { rate: rate(received) })} · ${t("frames-waiting", { count: count(waiting_frames) })}`);
  say("rows", count(sum(tables, (table) => table.rows)));
  say("rows-note", t("gap-ranges", { count: gap_ranges }));
  say("booked", money(ledger.booked));
  say("booked-note", t("accounts-count", { count: ledger.accounts }));
}

/** Frames a second between the last two looks, by this machine's clock: the head-end's own may be driven. */
function rate(received) {
  const now = { at: performance.now(), received };
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const frames = before ? received - before.received : 0;
  before = now;
  return count(seconds > 0 ? Math.max(Math.round(frames / seconds), 0) : 0);
}

function charges(ledger) {
  const balanced = ledger.trial_balance.paise === 0;
  const total = { sum: money(ledger.trial_balance) };
  const lines = [
    [t("charges-recharged"), ledger.recharged && money(ledger.recharged)],
    [t("charges-charged"), ledger.charged && money(ledger.charged)],
    [t("charges-accrued"), money(ledger.accrued)],
    [t("charges-closed"), ledger.closed_until ? day(ledger.closed_until) : "—"],
    [t("charges-sum"), balanced ? t("charges-sum-zero", total) : t("charges-sum-broken", total)],
  ];
  return lines.filter(([, text]) => text);
}

function sourceRow(source) {
  const names = {
    tcp: t("source-tcp"),
    udp: t("source-udp"),
    mqtt: t("source-mqtt"),
    waiting: t("source-waiting"),
  };
  const counts = ["received", "stored", "repeated", "quarantined", "refused", "contested"].map((key) => count(source[key]));
  const verdict = source.conserved ? t("adds-up-yes") : t("adds-up-no");
  const made = row([names[source.source] ?? source.source, verdict, ...counts], 2, 7);
  made.children[1].className = source.conserved ? "good" : "bad";
  return made;
}

/** A table row; the first cell is its head, the cells from `from` to `to` are numbers. */
function row(texts, from, to) {
  const made = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(index === 0 ? "th" : "td");
    if (index === 0) cell.scope = "row";
    if (index >= from && index <= to) cell.className = "number";
    cell.textContent = text;
    made.append(cell);
  });
  return made;
}

function list(id, lines) {
  const cells = lines.flatMap(([term, text]) => {
    const [head, body] = [document.createElement("dt"), document.createElement("dd")];
    head.textContent = term;
    body.textContent = text;
    return [head, body];
  });
  $(id).replaceChildren(...cells);
}

async function refresh() {
  try {
    show(await api.status());
    live(true);
  } catch (error) {
    live(false);
    $("notice").textContent = error instanceof api.Problem ? `${error.message}. ${error.detail}` : t("no-answer");
  }
}

function live(is) {
  $("notice").hidden = is;
  $("live").dataset.live = String(is);
  $("live").textContent = `${is ? t("status-live") : t("status-stale")} · `;
}

for (const link of document.querySelectorAll(".languages a")) {
  if (link.lang === lang) link.setAttribute("aria-current", "true");
}
$("card-link").hidden = document.documentElement.dataset.demo !== "true";

async function begin() {
  try {
    await loadTexts();
  } catch {
    setTimeout(begin, EVERY_MS);
    return;
  }
  await refresh();
  setInterval(() => document.hidden || refresh(), EVERY_MS);
}

begin();
